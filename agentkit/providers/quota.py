"""Rate limits as the providers' response headers tell them."""

from __future__ import annotations

from collections.abc import Mapping

from agentkit.types import Quota

_HEADERS = {
    "requests_per_minute": (
        "anthropic-ratelimit-requests-limit", "x-ratelimit-limit-requests",
    ),
    "input_tokens_per_minute": ("anthropic-ratelimit-input-tokens-limit",),
    "output_tokens_per_minute": ("anthropic-ratelimit-output-tokens-limit",),
    "tokens_per_minute": ("x-ratelimit-limit-tokens",),
}  # fmt: skip


def quota_of(headers: Mapping[str, str], *, daily_requests: bool = False) -> Quota | None:
    """What the headers say; None: nothing.

    `daily_requests`: the provider's ``x-ratelimit-limit-requests`` counts a day (Groq), not a
    minute, and is left out.
    """
    found: dict[str, int] = {}
    for name, headers_of in _HEADERS.items():
        for header in headers_of:
            value = headers.get(header)
            if value is None or (daily_requests and header == "x-ratelimit-limit-requests"):
                continue
            if value.isdecimal() and int(value) > 0:
                found[name] = int(value)
    return Quota(**found) if found else None
