"""The reservation of an attempt in the budgets of its call."""

from __future__ import annotations

from collections.abc import Sequence

from agentkit.engine.call import Call
from agentkit.engine.effects import Consult, Flow, Sleep
from agentkit.errors import LLMError
from agentkit.policy.account import Entry
from agentkit.policy.budget import Budget, Reservation, SharedBudgets, Spending
from agentkit.policy.limits import Need, estimate_need
from agentkit.policy.target import Target
from agentkit.types import Usage


def reserve_budgets(call: Call, target: Target) -> Flow[tuple[Spending, ...] | LLMError]:
    """Reserve the estimate in every budget of `call`. Returns the error if one is exceeded.

    Raises:
        DeadlineExceededError: a fleet does not know yet what was spent, and the time is up.
    """
    need = estimate_need(target.adapt(call.request))
    shared = call.rules.shared_budgets
    spendings: list[Spending] = []
    try:
        for budget in call.budgets:
            if shared is None or not budget.scope:
                spendings.append(budget.reserve(need, target.price, target.name))
            else:
                spendings.append((yield from _reserve_in_fleet(call, target, budget, need, shared)))
    except LLMError as refusal:
        give_back(call, spendings)
        if refusal is call.overdue:
            raise
        state = target.breaker_state
        call.record_skip(target.name, target.provider, "budget", refusal, breaker=state)
        return refusal
    except BaseException:
        give_back(call, spendings)
        raise
    return tuple(spendings)


def give_back(call: Call, spendings: Sequence[Spending]) -> None:
    """Return the reserved budget, as nothing was sent."""
    for budget, spending in zip(call.budgets, spendings, strict=False):
        budget.settle(spending, Usage())


def _reserve_in_fleet(
    call: Call, target: Target, budget: Budget, need: Need, shared: SharedBudgets
) -> Flow[Spending]:
    tokens, usd = budget.estimate(need, target.price, target.name)
    entry = shared.use_ahead(budget, tokens, usd)
    if entry is not None:
        return Spending(entry, target.price)
    reservation = shared.reservation(budget, tokens, usd)
    try:
        entry = yield from _wait_for(call, reservation)
    finally:
        reservation.close()
    if entry is None:
        raise budget.refusal(tokens, usd, target.name)
    return Spending(entry, target.price)


def _wait_for(call: Call, reservation: Reservation) -> Flow[Entry | None]:
    while True:
        step = reservation.step((yield from Consult(reservation.question)))
        if not isinstance(step, float):
            return step
        left = call.time_left()
        if left <= 0:
            raise call.deadline_error("the budget of the fleet is not known yet")
        if step:
            yield from Sleep(min(left, step))
