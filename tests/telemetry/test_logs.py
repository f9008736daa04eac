"""Logs say what an operator acts on, at the level it deserves, without content."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from agentkit import errors as e
from agentkit.policy.breaker import BreakerPolicy
from agentkit.testing import ScriptedModel, overloaded
from tests.telemetry.observing import Observed

SECRET = "canary-4711"


def logged(caplog: pytest.LogCaptureFixture, name: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == name]


def test_a_fallback_is_a_warning(seen: Observed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="agentkit")
    llm = seen.manager(("a", ScriptedModel(then=overloaded())), ("b", ScriptedModel("fine")))
    llm.generate("hi")
    retry, record = logged(caplog, "agentkit.calls")
    assert [retry.levelno, record.levelno] == [logging.INFO, logging.WARNING]
    fields: dict[str, Any] = vars(record)
    assert (fields["fallback_from"], fields["fallback_to"]) == ("a", "b")
    assert fields["reason"] == "retries_exhausted"


def test_a_breaker_warns_when_it_opens_and_informs_when_it_closes(
    seen: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="agentkit")
    model = ScriptedModel(overloaded(), "fine")
    llm = seen.manager(("a", model), breaker=BreakerPolicy(failure_threshold=1))
    with pytest.raises(e.OverloadedError):
        llm.generate("hi")
    seen.clock.advance(61.0)
    llm.generate("hi")
    records: list[Any] = logged(caplog, "agentkit.breaker")
    assert [(record.levelno, record.previous_state, record.state) for record in records] == [
        (logging.WARNING, "closed", "open"),
        (logging.INFO, "open", "half-open"),
        (logging.INFO, "half-open", "closed"),
    ]
    assert {record.breaker for record in records} == {"p-a/a"}


@pytest.mark.promise("S4-30")
def test_each_attempt_is_a_debug_line(seen: Observed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="agentkit")
    seen.manager(("a", ScriptedModel(overloaded(), "fine"))).generate("hi")
    records: list[Any] = logged(caplog, "agentkit.calls")
    attempts = [record for record in records if record.levelno == logging.DEBUG]
    assert [(record.model, record.error_type) for record in attempts] == [("a", "529"), ("a", None)]


@pytest.mark.promise("S2-39")
def test_no_record_contains_content(seen: Observed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="agentkit")

    class Odd(e.ProviderError):
        error_type = SECRET

    steps = (Odd(SECRET), e.ServerError(SECRET), SECRET)
    llm = seen.manager(
        ("a", ScriptedModel(*steps[:2])),
        ("b", ScriptedModel(steps[2])),
        breaker=BreakerPolicy(failure_threshold=2),
    )
    assert llm.generate(SECRET, user=SECRET) == SECRET
    assert len(caplog.records) >= 4
    for record in caplog.records:
        assert SECRET not in str(vars(record))
        assert SECRET not in record.getMessage()
