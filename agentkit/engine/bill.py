"""The tokens and cost of a settled attempt: reported by its provider, or else estimated.

The ledger, budgets, telemetry and agents all take their numbers from here.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from agentkit.errors import InvalidResponseError, LLMError, ProviderTimeoutError
from agentkit.policy.limits import estimate_usage
from agentkit.policy.price import Price
from agentkit.types import Request, Response, ResponseBuilder, Usage
from agentkit.types.ledger import Outcome
from agentkit.types.usage import is_countable

NOTHING: Final = Usage()


class Bill(NamedTuple):
    """The tokens and US dollars of one attempt; None for what is unknown.

    `usage` is reported by the provider, or certain because nothing was done. `billed` is `usage`,
    or else the estimate; it is None where neither a price nor a budget needs one.
    """

    usage: Usage | None
    billed: Usage | None
    cost: float | None
    estimated: bool


_UNKNOWN: Final = Bill(None, None, None, False)


def reported_usage(response: Response[Any] | None, error: BaseException | None) -> Usage | None:
    """The tokens that the provider counted: a refusal is an error, and may have them too."""
    if response is not None:
        return response.usage
    if isinstance(error, LLMError) and is_countable(error.usage):
        return error.usage
    return None


def make_bill(
    request: Request,
    outcome: Outcome,
    response: Response[Any] | None,
    error: LLMError | None,
    usage: Usage | None,
    received: ResponseBuilder | None,
    price: Price | None,
    needed: bool,
) -> Bill:
    """The bill of an attempt that ended with `response` or `error`.

    `usage` is the tokens that the provider counted. `received` is what arrived of a stream, if any
    content did. `needed` is whether a budget needs the estimate.

    Usage that a provider reports is not changed. An attempt that failed without content is free,
    and certainly so if it was refused with an HTTP status. But a provider that timed out or sent an
    invalid response has done work: that is estimated, and so are abandoned attempts and those that
    broke off.
    """
    if usage is not None and (usage.input_tokens or usage.output_tokens):
        if price is None:
            return Bill(usage, usage, None, False)
        return Bill(usage, usage, price.of(usage), not price.knows(usage))
    worked = error is None or isinstance(error, ProviderTimeoutError | InvalidResponseError)
    if outcome == "failure" and received is None and not worked:
        if getattr(error, "status", None):
            return Bill(NOTHING, NOTHING, 0.0, False)
        return Bill(NOTHING, NOTHING, None if price is None else 0.0, price is not None)
    if price is None and not needed:
        return _UNKNOWN
    if response is None and received is not None:
        response = received.response()
    billed = estimate_usage(request, response)
    return Bill(None, billed, None if price is None else price.of(billed), price is not None)
