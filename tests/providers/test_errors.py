"""The meaning of exceptions that carry the provider's own error object."""

from __future__ import annotations

import asyncio
import socket
import ssl
import urllib.error
from typing import Any

import httpx
import pytest

from agentkit import errors as e
from agentkit.providers.errors import translate
from agentkit.testing import WireServer
from agentkit.types import Request
from tests.providers.contract import PROVIDERS


class Refused(Exception):
    """An exception with the attributes of an SDK's."""

    def __init__(self, status: int | None, error: dict[str, Any], **headers: str) -> None:
        super().__init__(str(error))
        self.status_code = status
        self.body = error
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def translated(exc: Exception) -> e.LLMError:
    return translate(exc, provider="p", model="m")


_PLAN = "You exceeded your current quota, please check your plan and billing details."
_OPENAI = (
    f"{_PLAN} For more information on this error, read the docs: https://platform.openai.com/docs"
)
_ALIBABA = (
    f"{_PLAN} For details, see: https://help.aliyun.com/zh/model-studio/error-code#token-limit"
)
_QUOTA = "insufficient_quota"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"message": _OPENAI, "type": _QUOTA, "code": _QUOTA}, e.AuthenticationError),
        ({"message": _OPENAI, "type": _QUOTA, "code": None}, e.AuthenticationError),
        (
            {"message": "You have no credits.", "type": _QUOTA, "code": "credit_balance_exhausted"},
            e.AuthenticationError,
        ),
        ({"message": _ALIBABA, "type": _QUOTA, "code": _QUOTA}, e.RateLimitError),
        (
            {"message": "Allocated quota exceeded.", "type": _QUOTA, "code": _QUOTA},
            e.RateLimitError,
        ),
        (
            {"message": "Rate limit reached", "type": "tokens", "code": "rate_limit_exceeded"},
            e.RateLimitError,
        ),
    ],
)
def test_a_429_is_an_empty_account_or_a_rate_limit(error: Any, expected: type[e.LLMError]) -> None:
    made = translated(Refused(429, error))
    assert type(made) is expected
    assert ("billing" in (made.hint or "")) is (expected is e.AuthenticationError)


_LIMIT = "Billing hard limit has been reached"
_BALANCE = (
    "Your credit balance is too low to access the Anthropic API. "
    "Please go to Plans & Billing to upgrade or purchase credits."
)


@pytest.mark.parametrize(
    ("status", "error", "empty"),
    [
        (400, {"message": _LIMIT, "code": "billing_hard_limit_reached"}, True),
        (429, {"message": _LIMIT, "code": "billing_hard_limit_reached"}, True),
        (403, {"message": "Your account is not active.", "code": "billing_not_active"}, True),
        (400, {"error": {"type": "invalid_request_error", "message": _BALANCE}}, True),
        (400, {"error": {"type": "invalid_request_error", "message": "max_tokens: 0"}}, False),
        (400, {"message": "the prompt says: credit balance is too low"}, False),
        (500, {"error": {"type": "invalid_request_error", "message": _BALANCE}}, False),
    ],
)
def test_an_account_without_credit_by_its_code_or_by_anthropics_message(
    status: int, error: dict[str, Any], empty: bool
) -> None:
    made = translated(Refused(status, error))
    assert ("billing" in (made.hint or "")) is empty
    assert isinstance(made, e.AuthenticationError) is empty


def test_a_retry_after_means_a_rate_limit_whatever_the_code() -> None:
    made = translated(Refused(429, {"code": _QUOTA}, retry_after="2"))
    assert (type(made), made.retry_after) == (e.RateLimitError, 2.0)


def test_an_empty_account_is_recognized_inside_a_stream() -> None:
    assert type(translated(Refused(None, {"code": _QUOTA}))) is e.AuthenticationError


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (
            ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"),
            "wrong version number",
        ),
    ],
)
def test_a_network_error_says_where_and_why(cause: Exception, reason: str) -> None:
    request = httpx.Request("POST", "https://user:password@example.test:8443/v1?key=hidden")
    exc = httpx.ConnectError("failed", request=request)
    exc.__cause__ = cause
    message = translated(exc).message
    assert "https://example.test:8443 " in message
    assert reason in message
    assert not {"password", "hidden", "user"} & set(message.replace(":", " ").split())


def test_an_exception_without_a_request_or_a_reason_keeps_its_short_message() -> None:
    assert translated(httpx.ConnectError("failed")).message == "m failed: ConnectError"
    assert translated(ConnectionError("of a user")).message == "m failed: ConnectionError"


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("exc", "message"),
    [
        (ValueError("no such\n voice"), "m failed: ValueError: no such voice"),
        (ConnectionError("of a user"), "m failed: ConnectionError: of a user"),
        (RuntimeError("key sk-4711 refused"), "m failed: RuntimeError: key *** refused"),
        (RuntimeError("x" * 10**7), f"m failed: RuntimeError: {'x' * 299}…"),
        (ValueError(), "m failed: ValueError"),
        (Unreadable(), "m failed: Unreadable"),
    ],
)
def test_the_text_of_a_user_s_exception_is_redacted_and_bounded(
    exc: Exception, message: str
) -> None:
    assert translate(exc, provider="p", model="m", with_text=True).message == message


@pytest.mark.parametrize(
    "exc",
    [
        httpx.ConnectError("prompt"),
        type("OwnError", (httpx.ReadError,), {})("prompt"),
        urllib.error.URLError("prompt"),
        Refused(418, {"message": "prompt"}),
    ],
)
def test_the_text_of_a_client_s_exception_stays_out(exc: Exception) -> None:
    assert "prompt" not in translate(exc, provider="p", model="m", with_text=True).message


@pytest.mark.wire
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_refused_connection_is_named(provider: str, mode: str) -> None:
    with WireServer() as gone:
        adapter = PROVIDERS[provider].make(gone)
        place = httpx.URL(gone.openai_url)

    async def ask() -> None:
        try:
            await adapter.asend(Request(prompt="hello"))
        finally:
            await adapter.aclose()

    with pytest.raises(Exception) as caught:
        asyncio.run(ask()) if mode == "async" else adapter.send(Request(prompt="hello"))
    adapter.close()
    message = translated(caught.value).message
    assert f"at http://{place.host}:{place.port}" in message
    assert "refused" in message


def test_a_content_filter_gives_its_reason_without_keys_and_shortened() -> None:
    text = (
        "Filtered:\n  hate (high). " + "sk-" + "a1" * 10 + " https://u:p@host/x?key=1 " + "x" * 400
    )
    made = translated(Refused(400, {"code": "content_filter", "message": text}))
    assert type(made) is e.ContentFilterError
    assert "(Filtered: hate (high). *** https://***host/x*** xxx" in made.message
    assert len(made.message) < 340


def test_no_other_error_quotes_the_body() -> None:
    made = translated(Refused(400, {"code": None, "message": "your prompt was: hello"}))
    assert "hello" not in str(made)
