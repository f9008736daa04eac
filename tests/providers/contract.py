"""What each fault of a provider must come to, whoever the provider is and however it is asked.

`PROVIDERS` has one row a provider, `CASES` one a fault. `rows()` lists every combination, which
the suite runs over real sockets and a page may print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from agentkit import errors as e
from agentkit.providers.registry import provider_for
from agentkit.testing import WireServer, faults
from agentkit.types import Response

MODEL = "some-model"
ANSWER = "The capital is Paris."

Blame = Literal["failure", "consecutive", "neutral", "in vain"]
Error = type[e.LLMError]

_ANTHROPIC_NO_CREDIT = (
    "Your credit balance is too low to access the Anthropic API. "
    "Please go to Plans & Billing to upgrade or purchase credits."
)
_NO_CREDIT = faults.status(429, kind="insufficient_quota")


@dataclass(frozen=True)
class Provider:
    """One adapter: its name in the registry and the server's URL for it.

    `too_long` is its own way to say that a prompt does not fit, `without_credit` that the account
    is empty; `extra` are settings it needs.
    """

    name: str
    url: Callable[[WireServer], str]
    too_long: faults.Status
    extra: Mapping[str, Any] = field(default_factory=dict)
    without_credit: faults.Status = _NO_CREDIT

    def make(self, server: WireServer, **settings: Any) -> Any:
        """The adapter, asking `server`."""
        given = {"api_key": "made-up-key", "base_url": self.url(server), **self.extra, **settings}
        return provider_for(f"{self.name}:{MODEL}", **given)


_CODED = faults.status(400, kind="context_length_exceeded")

PROVIDERS = {
    each.name: each
    for each in (
        Provider("openai", lambda server: server.openai_url, _CODED),
        Provider("openai-responses", lambda server: server.openai_url, _CODED),
        Provider("groq", lambda server: server.groq_url, _CODED),
        Provider(
            "compatible",
            lambda server: server.openai_url,
            faults.status(400, message="This model's maximum context length is 4096 tokens."),
        ),
        Provider(
            "anthropic",
            lambda server: server.anthropic_url,
            faults.status(400, message="prompt is too long: 210000 tokens > 200000 maximum"),
            without_credit=faults.status(400, message=_ANTHROPIC_NO_CREDIT),
        ),
        Provider(
            "google",
            lambda server: server.google_url,
            faults.status(
                400,
                message="The input token count (1200000) exceeds the maximum number of tokens "
                "allowed (1048576).",
            ),
            without_credit=faults.status(402),
        ),
    )
}

ADAPTERS = PROVIDERS | {
    f"{name}, native": replace(each, extra={**each.extra, "transport": "native"})
    for name, each in PROVIDERS.items()
}
"""Every adapter over each of its transports."""


@dataclass(frozen=True)
class Case:
    """A fault, and what two attempts at it and a model to fall back on come to.

    Attributes:
        outcome: the fault, an answer, or a function from the provider to either.
        error: what the attempt dies of.
        attempts: how many are made at the model, of two.
        blame: how its breaker counts each.
        raises: the error that the caller gets; None: the next model answers.
        patience: seconds that an attempt is given where only a time limit ends it.
        breaks: whether a stream breaks after its first content, which the caller sees immediately.
    """

    outcome: Any
    error: Error
    attempts: int
    blame: Blame
    raises: Error | None = None
    patience: float | None = None
    breaks: bool = False

    def expected(self, *, stream: bool) -> Case:
        """The same for a stream or for a complete answer."""
        if not (stream and self.breaks):
            return self
        patience = None if self.patience is None else 1.0  # the first content must get through
        return replace(self, attempts=1, raises=e.StreamInterruptedError, patience=patience)


def _status(
    code: int, error: Error, attempts: int, blame: Blame, raises: Error | None = None
) -> Case:
    return Case(faults.status(code), error, attempts, blame, raises)


def _named(code: int, kind: str, error: Error) -> Case:
    return Case(faults.status(code, kind=kind), error, 2, "failure")


def _silent(outcome: Any) -> Case:
    return Case(outcome, e.ProviderTimeoutError, 1, "failure", patience=0.1)


def _broken(outcome: Any, error: Error) -> Case:
    return Case(outcome, error, 2, "failure", breaks=True)


_STALL = Case(
    faults.stalled_stream(2), e.ProviderTimeoutError, 1, "failure", patience=0.1, breaks=True
)
_EMPTY: Response[Any] = Response("", finish_reason="stop")
_CUT: Response[Any] = Response("", finish_reason="length")
_FILTERED: Response[Any] = Response("", finish_reason="content_filter")

CASES = {
    "status 307": Case(
        faults.status(307, headers=(("location", "/elsewhere"),)),
        e.InvalidResponseError,
        1,
        "failure",
    ),
    "status 400": _status(400, e.InvalidRequestError, 1, "neutral", e.InvalidRequestError),
    "status 401": _status(401, e.AuthenticationError, 1, "failure"),
    "status 402": _status(402, e.AuthenticationError, 1, "failure"),
    "status 403": _status(403, e.AuthenticationError, 1, "failure"),
    "status 404": _status(404, e.ModelNotFoundError, 1, "failure"),
    "status 408": _status(408, e.ProviderTimeoutError, 1, "failure"),
    "status 409": _status(409, e.ServerError, 2, "failure"),
    "status 413": _status(413, e.InvalidRequestError, 1, "neutral", e.InvalidRequestError),
    "status 422": _status(422, e.InvalidRequestError, 1, "neutral", e.InvalidRequestError),
    "status 424": _status(424, e.ServerError, 2, "failure"),
    "status 425": _status(425, e.ServerError, 2, "failure"),
    "status 429": _status(429, e.RateLimitError, 2, "consecutive"),
    "status 429, retry-after: 0.01": Case(
        faults.status(429, retry_after=0.01), e.RateLimitError, 2, "in vain"
    ),
    "status 429, retry-after-ms: 10": Case(
        faults.status(429, retry_after_ms=10), e.RateLimitError, 2, "in vain"
    ),
    "status 429, retry-after: 60": Case(
        faults.status(429, retry_after=60), e.RateLimitError, 1, "neutral"
    ),
    "account without credit": Case(
        lambda provider: provider.without_credit, e.AuthenticationError, 1, "failure"
    ),
    "status 500": _status(500, e.ServerError, 2, "failure"),
    "status 502": _status(502, e.ServerError, 2, "failure"),
    "status 503": _status(503, e.ServerError, 2, "failure"),
    "status 504": _status(504, e.ServerError, 2, "failure"),
    "status 529": _status(529, e.OverloadedError, 2, "failure"),
    "prompt too long": Case(lambda provider: provider.too_long, e.ContextLengthError, 1, "neutral"),
    "content filter": Case(_FILTERED, e.ContentFilterError, 1, "neutral", e.ContentFilterError),
    "no content": Case(_EMPTY, e.InvalidResponseError, 2, "failure"),
    "no content, at the token limit": Case(_CUT, e.InvalidResponseError, 1, "neutral"),
    "reset": Case(faults.reset(), e.NetworkError, 2, "failure"),
    "disconnect": Case(faults.disconnect(), e.NetworkError, 2, "failure"),
    "silence": _silent(faults.silence()),
    "malformed body": Case(faults.malformed_body(), e.InvalidResponseError, 2, "failure"),
    "slow first token": _silent(faults.slow_first_token(30)),
    "slow chunks": _silent(faults.slow_chunks(30)),
    "trickle": _silent(faults.trickle(0.02)),
    "cut before the first token": Case(faults.cut_stream(0), e.NetworkError, 2, "failure"),
    "cut": _broken(faults.cut_stream(2), e.NetworkError),
    "stall": _STALL,
    "malformed first chunk": Case(faults.malformed_chunk(0), e.InvalidResponseError, 2, "failure"),
    "malformed chunk": _broken(faults.malformed_chunk(2), e.InvalidResponseError),
    "missing end mark": _broken(faults.missing_end(), e.InvalidResponseError),
    "error inside a 200, at once": Case(
        faults.stream_error(0, status=500), e.ServerError, 2, "failure"
    ),
    "rate limit inside a 200, at once": Case(
        faults.stream_error(0, status=429), e.RateLimitError, 2, "consecutive"
    ),
    "error inside a 200": _broken(faults.stream_error(2, status=500), e.ServerError),
}


OF_BEDROCK = {
    "prompt too long": Case(
        faults.status(400, message="Input is too long for requested model."),
        e.ContextLengthError,
        1,
        "neutral",
    ),
    "status 503": _status(503, e.OverloadedError, 2, "failure"),
    "status 529": _status(529, e.ServerError, 2, "failure"),
    "account without credit": Case(faults.status(402), e.AuthenticationError, 1, "failure"),
    "ModelNotReadyException": _named(429, "ModelNotReadyException", e.OverloadedError),
    "ServiceQuotaExceededException": replace(
        _named(400, "ServiceQuotaExceededException", e.RateLimitError), blame="consecutive"
    ),
    "ExpiredTokenException": replace(
        _named(403, "ExpiredTokenException", e.AuthenticationError), attempts=1
    ),
    "InvalidSignatureException (a wrong clock)": replace(
        _named(403, "InvalidSignatureException", e.AuthenticationError), attempts=1
    ),
    "an unknown exception, status 503": _named(503, "SurpriseException", e.ServerError),
}
"""What Amazon Bedrock has of its own, or otherwise than the other providers."""
_NO_ERROR_INSIDE = (
    "error inside a 200",
    "error inside a 200, at once",
    "rate limit inside a 200, at once",
)
"""A complete answer of Bedrock with status 200 contains no error."""
_NOTICED_BY_NATIVE = ("cut", "cut before the first token")
"""boto3 does not notice that a complete answer breaks off."""


def case_of_bedrock(fault: str, transport: str, *, stream: bool) -> Case:
    """The outcome of a fault of Amazon Bedrock."""
    case = {**CASES, **OF_BEDROCK}[fault]
    unreadable = _NO_ERROR_INSIDE + (_NOTICED_BY_NATIVE if transport == "sdk" else ())
    if fault in unreadable and not stream:
        case = replace(case, error=e.InvalidResponseError, blame="failure")
    return case.expected(stream=stream)


class Row(NamedTuple):
    """One line of the fault table: see `Case`; `raises` is empty if the next model answers."""

    fault: str
    provider: str
    mode: Literal["sync", "async"]
    stream: bool
    error: str
    attempts: int
    blame: Blame
    raises: str


def rows() -> Iterator[Row]:
    """Every fault × provider × sync or async × complete or streamed, with its outcome."""
    for fault, case in CASES.items():
        for provider in ADAPTERS:
            for stream in (False, True):
                row = _row(fault, provider, case.expected(stream=stream), stream=stream)
                yield row
                yield row._replace(mode="async")


def rows_of_bedrock() -> Iterator[Row]:
    """Like `rows`, for Amazon Bedrock, with the faults whose outcome differs in any way."""
    for fault in {**CASES, **OF_BEDROCK}:
        found: list[Row] = []
        usual: list[Row] = []
        for transport, provider in (("sdk", "bedrock"), ("native", "bedrock, native")):
            for stream in (False, True):
                case = case_of_bedrock(fault, transport, stream=stream)
                found.append(_row(fault, provider, case, stream=stream))
                shared = CASES.get(fault)
                if shared is not None:
                    expected = shared.expected(stream=stream)
                    usual.append(_row(fault, provider, expected, stream=stream))
        if found != usual:
            yield from found


def _row(fault: str, provider: str, expected: Case, *, stream: bool) -> Row:
    raises = expected.raises.__name__ if expected.raises else ""
    figures = expected.error.__name__, expected.attempts, expected.blame, raises
    return Row(fault, provider, "sync", stream, *figures)
