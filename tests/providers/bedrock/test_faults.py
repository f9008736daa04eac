"""What each fault of the service comes to, however it is asked; nothing broken is a success."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from botocore.exceptions import ClientError, EventStreamError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from agentkit import BreakerPolicy, CircuitBreaker
from agentkit import errors as e
from agentkit.providers.bedrock.clients import Clients
from agentkit.providers.bedrock.errors import needs_profile, translate
from agentkit.testing import WireServer, faults
from agentkit.types import Restart
from tests.providers.bedrock.wired import (
    ANSWER,
    AUTH,
    MODES,
    ask,
    clients_at,
    details_of,
    given,
    heard,
    manager,
    target,
)
from tests.providers.contract import CASES, OF_BEDROCK, case_of_bedrock


@dataclass
class Stage:
    """One server and one client for all rows: connections are kept, as in life."""

    server: WireServer
    clients: Clients
    runner: asyncio.Runner


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with (
        WireServer(reply=ANSWER) as server,
        clients_at(server.bedrock_url) as clients,
        asyncio.Runner() as runner,
    ):
        yield Stage(server, clients, runner)


both_transports = pytest.mark.usefixtures("transport")
every_way = pytest.mark.parametrize(
    ("mode", "stream"), [(mode, stream) for mode in MODES for stream in (False, True)]
)
modes = pytest.mark.parametrize("mode", MODES)


@pytest.mark.wire
@every_way
@pytest.mark.parametrize("fault", list(CASES | OF_BEDROCK))
def test_each_fault_comes_to_what_the_table_says(
    stage: Stage, transport: str, fault: str, mode: str, stream: bool
) -> None:
    case = case_of_bedrock(fault, transport, stream=stream)
    stage.server.clear()
    stage.server.always(case.outcome)
    breaker = CircuitBreaker(policy=BreakerPolicy(failure_threshold=99))
    llm = manager(
        target(stage.clients),
        breaker=breaker,
        timeout=case.patience or 20.0,
        attempts=2,
        backup=True,
    )
    with llm:
        if case.raises:
            with pytest.raises(case.raises) as raised:
                ask(llm, mode, stream=stream)
            ledger = raised.value.ledger
        else:
            reply = ask(llm, mode, stream=stream)
            assert reply.text == "from backup"
            ledger = reply.ledger
    assert ledger is not None
    sent = [entry for entry in ledger.sent if entry.model == "primary"]
    assert [entry.error for entry in sent] == [case.error.__name__] * case.attempts
    figures = breaker.statistics()
    failed = case.attempts if case.blame == "failure" else 0
    uncounted = {"neutral": case.attempts, "in vain": 1}.get(case.blame, 0)
    in_a_row = case.attempts - uncounted
    assert (figures.failures, figures.consecutive_failures) == (failed, in_a_row)


SERVICE = [
    (403, "AccessDeniedException", e.AuthenticationError),
    (400, "ConflictException", e.ServerError),
    (500, "InternalServerException", e.ServerError),
    (424, "ModelErrorException", e.ServerError),
    (429, "ModelNotReadyException", e.OverloadedError),
    (424, "ModelStreamErrorException", e.ServerError),
    (408, "ModelTimeoutException", e.ProviderTimeoutError),
    (404, "ResourceNotFoundException", e.ModelNotFoundError),
    (400, "ServiceQuotaExceededException", e.RateLimitError),
    (503, "ServiceUnavailableException", e.OverloadedError),
    (429, "ThrottlingException", e.RateLimitError),
    (400, "ValidationException", e.InvalidRequestError),
]


@pytest.mark.wire
@both_transports
@pytest.mark.parametrize(("status", "code", "error"), SERVICE)
def test_every_error_of_the_service_model_has_its_class(
    stage: Stage, status: int, code: str, error: type[e.ProviderError]
) -> None:
    stage.server.clear()
    stage.server.always(faults.status(status, kind=code, retry_after=0.5))
    with manager(target(stage.clients)) as llm, pytest.raises(error) as raised:
        ask(llm, "sync", **given())
    assert type(raised.value) is error
    assert (raised.value.status, raised.value.request_id) == (status, "req_1")
    assert raised.value.retry_after == 0.5
    assert isinstance(raised.value.__cause__, ClientError)
    (details,) = details_of(raised.value)
    assert details is not None
    assert type(details["error"]) is error
    assert details["error"].__cause__ is raised.value.__cause__


@pytest.mark.wire
@both_transports
def test_no_error_of_the_service_model_is_missing(stage: Stage) -> None:
    model = stage.clients.runtime("us-east-1").meta.service_model
    named = {code for _, code, _ in SERVICE}
    assert {shape.name for shape in model.error_shapes} <= named
    stream = model.operation_model("ConverseStream").output_shape.members["stream"]
    in_band = {shape.name for shape in stream.members.values() if shape.metadata.get("exception")}
    assert in_band <= named


@pytest.mark.wire
@both_transports
@modes
@pytest.mark.parametrize("spelling", ["exception", "error:{0}", "error:{1}"])
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("InternalServerException", e.ServerError),
        ("ModelStreamErrorException", e.ServerError),
        ("ServiceUnavailableException", e.OverloadedError),
        ("ThrottlingException", e.RateLimitError),
        ("ValidationException", e.InvalidRequestError),
    ],
)
def test_b11_an_error_within_a_stream_is_the_same_in_every_spelling(
    stage: Stage, code: str, error: type[e.LLMError], spelling: str, mode: str
) -> None:
    small = code[0].lower() + code[1:]
    kind = small if spelling == "exception" else spelling.format(code, small)
    stage.server.clear()
    stage.server.script(faults.stream_error(0, kind=kind, message="words"))
    with manager(target(stage.clients), attempts=2, backup=True) as llm:
        if error is e.InvalidRequestError:
            with pytest.raises(error) as raised:
                ask(llm, mode, stream=True, **given())
            details = details_of(raised.value)
        else:
            reply = ask(llm, mode, stream=True, **given())
            assert (reply.text, len(reply.ledger.sent)) == (ANSWER, 2)
            details = details_of(reply)
    assert details[0] is not None
    assert type(details[0]["error"]) is error


@pytest.mark.wire
@both_transports
@modes
@pytest.mark.parametrize("kind", ["throttlingException", "error:ThrottlingException"])
def test_b11_an_error_after_content_is_never_a_short_answer(
    stage: Stage, kind: str, mode: str
) -> None:
    stage.server.clear()
    stage.server.always(faults.stream_error(2, kind=kind))
    llm = manager(target(stage.clients), attempts=2)
    with llm, pytest.raises(e.StreamInterruptedError) as raised:
        ask(llm, mode, stream=True, **given())
    assert raised.value.partial == "The capital"
    (details,) = details_of(raised.value)
    assert details is not None
    assert type(details["error"]) is e.RateLimitError


@pytest.mark.wire
@both_transports
@modes
def test_b11_too_long_a_prompt_is_recognized_within_a_stream_too(stage: Stage, mode: str) -> None:
    result = faults.stream_error(
        0, kind="validationException", message="Input is too long for requested model."
    )
    stage.server.clear()
    stage.server.always(result)
    with manager(target(stage.clients)) as llm, pytest.raises(e.ContextLengthError):
        ask(llm, mode, stream=True)


@pytest.mark.wire
@both_transports
@modes
def test_b8_a_refused_stream_is_an_error(stage: Stage, mode: str) -> None:
    stage.server.clear()
    stage.server.always(faults.status(403))
    with manager(target(stage.clients)) as llm, pytest.raises(e.AuthenticationError):
        ask(llm, mode, stream=True)


@pytest.mark.wire
@both_transports
@modes
@pytest.mark.parametrize(
    "fault",
    [
        faults.cut_stream(2),
        faults.cut_stream(99),
        faults.cut_stream(2, reset=True),
        faults.malformed_chunk(2),
        faults.missing_end(),
        faults.stream_error(99),
    ],
    ids=repr,
)
def test_b9_a_broken_stream_is_never_a_success(
    stage: Stage, fault: faults.Fault, mode: str
) -> None:
    stage.server.clear()
    stage.server.always(fault)
    llm = manager(target(stage.clients), attempts=2)
    with llm, pytest.raises(e.StreamInterruptedError) as raised:
        ask(llm, mode, stream=True)
    assert raised.value.partial
    assert ANSWER.startswith(raised.value.partial)
    assert len(stage.server.requests) == 1


@pytest.mark.wire
@both_transports
@modes
def test_b9_what_broke_is_never_part_of_what_comes_after_it(stage: Stage, mode: str) -> None:
    stage.server.clear()
    stage.server.script(faults.cut_stream(2))
    with manager(target(stage.clients), backup=True) as llm:
        events, reply = heard(llm, mode, on_interrupt="restart")
    (restart,) = (each for each in events if isinstance(each, Restart))
    assert restart.discarded == "The capital"
    assert reply.text == "from backup"


@pytest.mark.wire
@both_transports
@every_way
def test_a_refused_connection_is_a_network_error(mode: str, stream: bool) -> None:
    with WireServer() as gone:
        url = gone.bedrock_url
    with (
        clients_at(url) as clients,
        manager(target(clients), attempts=2) as llm,
        pytest.raises(e.NetworkError) as raised,
    ):
        ask(llm, mode, stream=stream)
    assert raised.value.ledger is not None
    assert len(raised.value.ledger.sent) == 2


@pytest.mark.wire
@both_transports
@every_way
def test_missing_credentials_are_an_authentication_error(
    monkeypatch: pytest.MonkeyPatch, mode: str, stream: bool
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with WireServer() as server, Clients(endpoint_url=server.bedrock_url) as clients:
        with manager(target(clients)) as llm, pytest.raises(e.AuthenticationError):
            ask(llm, mode, stream=stream)
        assert server.requests == ()


@pytest.mark.parametrize(
    "message",
    [
        "Input is too long for requested model.",
        "The model returned the following errors: Input is too long for requested model.",
        (
            "The model returned the following errors: prompt is too long: 903884 tokens > 200000 "
            "maximum"
        ),
        (
            "The model returned the following errors: input length and `max_tokens` exceed context "
            "limit: 190000 + 20000 > 200000"
        ),
        "The model returned the following errors: too many total text bytes: 30000000 > 27000000",
        (
            "Mantle streaming error for requestId 1: \"This model's maximum context length is "
            '202752 tokens."'
        ),
    ],
)
def test_a_prompt_that_is_too_long_is_recognized_by_its_recorded_message(message: str) -> None:
    assert type(translate(refused(message), model="m")) is e.ContextLengthError


@pytest.mark.parametrize(
    "message",
    ["messages.0.content.3.type: Field required", "tool name is too long", ""],
)
def test_another_refusal_is_not_about_length(message: str) -> None:
    assert type(translate(refused(message), model="m")) is e.InvalidRequestError


def test_a_throttle_in_words_of_a_refusal_is_a_throttle() -> None:
    throttle = refused("Input is too long; on-demand throughput isn't supported", "Throttling")
    assert type(translate(throttle, model="m")) is e.RateLimitError
    assert not needs_profile(throttle)


def test_what_is_not_of_the_sdk_is_left_to_the_general_table() -> None:
    assert translate(ValueError("mine"), model="m") is None
    assert translate(io.UnsupportedOperation("mine"), model="m") is None
    unknown = ClientError({"Error": {"Code": "Odd"}, "ResponseMetadata": {}}, "Converse")
    assert translate(unknown, model="m") is None


@pytest.mark.parametrize(
    ("exc", "error"),
    [
        (ReadTimeoutError(endpoint_url="x"), e.ProviderTimeoutError),
        (ResponseParserError("odd"), e.InvalidResponseError),
        (EventStreamError({"Error": {}}, "ConverseStream"), e.InvalidResponseError),
    ],
)
def test_errors_of_the_sdk_itself_have_their_class(exc: Exception, error: type[e.LLMError]) -> None:
    made = translate(exc, model="m")
    assert type(made) is error
    assert made.__cause__ is exc


@pytest.mark.wire
@both_transports
def test_no_error_holds_a_secret_or_the_prompt(stage: Stage) -> None:
    stage.server.clear()
    stage.server.always(faults.status(403, kind="InvalidSignatureException"))
    with manager(target(stage.clients)) as llm, pytest.raises(e.AuthenticationError) as raised:
        ask(llm, "sync", prompt_or_messages="a very private question")
    assert AUTH.secret_access_key is not None
    shown = f"{raised.value!r} {raised.value} {raised.value.__cause__!r} {raised.value.ledger}"
    assert AUTH.secret_access_key.reveal() not in shown
    assert "private" not in shown


def refused(message: str, code: str = "ValidationException") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Converse")
