"""What a process asks a moment later is asked once, at the earliest time that anybody named."""

from __future__ import annotations

import math

from agentkit.state.agenda import Agenda
from agentkit.types.fleet import Question


def test_what_is_asked_soon_is_asked_once_and_in_time() -> None:
    agenda, first, other = Agenda(), list, tuple
    assert agenda.soon(first, at=10.0)
    assert not agenda.soon(first, at=11.0), "it is asked before that"
    assert not agenda.soon(other, at=12.0)
    assert agenda.soon(other, at=9.0)
    assert agenda.due == 9.0
    assert agenda.take(9.5) == [other]
    assert agenda.due == 10.0
    assert agenda.take(10.0) == [first]
    assert agenda.take(10.0) == []
    assert agenda.due == math.inf


def test_each_lead_has_a_release_until_it_ends() -> None:
    agenda, question = Agenda(), Question("renew", (), ())
    agenda.lead(question, question._replace(function="release"))
    assert [each.function for each in (*agenda.leads, *agenda.releases)] == ["renew", "release"]
    agenda.stop_leading(question)
    assert agenda.leads == agenda.releases == []


def test_a_forked_child_leaves_what_is_due_to_its_parent_but_not_its_rounds() -> None:
    agenda = Agenda()
    agenda.soon(list, at=1.0)
    agenda.at_heartbeat(tuple)
    agenda.leave_to_parent()
    assert agenda.due == math.inf
    assert agenda.take(2.0) == []
    assert agenda.rounds == [tuple]
