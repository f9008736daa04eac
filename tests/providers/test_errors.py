"""The meaning of exceptions that carry the provider's own error object."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import errors as e
from agentkit.providers.errors import translate


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


def test_a_retry_after_means_a_rate_limit_whatever_the_code() -> None:
    made = translated(Refused(429, {"code": _QUOTA}, retry_after="2"))
    assert (type(made), made.retry_after) == (e.RateLimitError, 2.0)


def test_an_empty_account_is_recognized_inside_a_stream() -> None:
    assert type(translated(Refused(None, {"code": _QUOTA}))) is e.AuthenticationError
