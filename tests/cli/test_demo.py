"""``agentkit demo`` with a fake clock: it reports what the manager did."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agentkit.cli.demo import CALM, FALLBACK, PRIMARY, Outage
from agentkit.testing.clock import FakeClock

Event = dict[str, Any]


def played(clock: FakeClock | None = None) -> tuple[Outage, list[Event]]:
    clock = clock or FakeClock()
    outage = Outage(CALM, clock=clock, sleep=clock.sleep)
    with outage.manager:
        return outage, list(outage.play())


def answers(scene: int) -> list[Event]:
    """The answers of a scene, counted from 0."""
    scenes: list[list[Event]] = []
    for event in played()[1]:
        if event["kind"] == "scene":
            scenes.append([])
        scenes[-1].append(event)
    return [event for event in scenes[scene] if event["kind"] == "answer"]


def attempts(answer: Event) -> list[tuple[str, str]]:
    return [(each["model"], each["reason"] or each["outcome"]) for each in answer["attempts"]]


def test_healthy_models_answer_at_the_first_attempt() -> None:
    for answer in answers(0):
        assert attempts(answer) == [(PRIMARY, "success")]


def test_an_outage_is_retried_and_then_answered_by_the_fallback() -> None:
    (down,) = answers(1)
    assert attempts(down) == [*3 * [(PRIMARY, "failure")], (FALLBACK, "success")]
    assert down["model"] == FALLBACK
    delays = [each["delay"] for each in down["attempts"] if each["delay"]]
    assert len(delays) == 2
    assert delays[0] < delays[1]


def test_the_fifth_failure_in_a_row_opens_the_breaker() -> None:
    (answer,) = answers(2)
    assert attempts(answer) == [*2 * [(PRIMARY, "failure")], (FALLBACK, "success")]
    assert answer["breakers"] == ["circuit breaker of primary: closed → open"]


def test_an_open_breaker_sends_nothing_to_its_model() -> None:
    (answer,) = answers(3)
    assert attempts(answer) == [(PRIMARY, "circuit_open"), (FALLBACK, "success")]


def test_earlier_answers_come_from_the_cache_of_their_own_model() -> None:
    first, second = answers(4)
    assert (first["model"], first["cache"], attempts(first)) == (PRIMARY, "hit", [])
    assert (second["model"], second["cache"]) == (FALLBACK, "hit")
    assert attempts(second) == [(PRIMARY, "circuit_open")]


def test_a_probe_after_the_recovery_time_closes_the_breaker() -> None:
    probe, usual = answers(5)
    assert attempts(probe) == attempts(usual) == [(PRIMARY, "success")]
    assert probe["breakers"] == [
        "circuit breaker of primary: open → half-open",
        "circuit breaker of primary: half-open → closed",
    ]


def test_the_scoreboard_counts_what_the_events_reported() -> None:
    outage, events = played()
    scores = outage.scoreboard()
    entries = [each for event in events for each in event.get("attempts", ())]
    for name, score in scores["models"].items():
        sent = [each for each in entries if each["model"] == name and each["number"]]
        successes = [each for each in sent if each["outcome"] == "success"]
        assert score["attempts"] == len(sent)
        assert score["success_rate"] == pytest.approx(len(successes) / len(sent))
        assert score["breaker"] == "closed"
    kinds = [event["kind"] for event in events]
    totals = scores["totals"]
    assert totals["total_requests"] == kinds.count("question") == kinds.count("answer")
    assert totals["total_retries"] == sum(each["number"] > 1 for each in entries)
    assert totals["cache_hits"] == 2
    assert scores["models"][PRIMARY]["breaker_opened"] == 1
    assert scores["models"][PRIMARY]["breaker_refused"] == 2


def test_nothing_is_reported_that_did_not_happen() -> None:
    """A primary that stays up has no failure, no retry and no open breaker."""
    clock = FakeClock()
    outage = Outage(CALM, clock=clock, sleep=clock.sleep)
    with outage.manager:
        for event in outage.play():
            outage.primary_is_up = True
            assert event.get("breakers", []) == []
            assert all(entry["outcome"] == "success" for entry in event.get("attempts", ()))
    assert outage.scoreboard()["models"][PRIMARY]["success_rate"] == 1.0
    assert outage.scoreboard()["models"][FALLBACK]["attempts"] == 0


def test_time_never_goes_back() -> None:
    _, events = played()
    assert all(earlier["at"] <= later["at"] for earlier, later in pairwise(events))


def test_the_demo_takes_six_to_eight_seconds() -> None:
    clock = FakeClock()
    played(clock)
    assert 6.0 <= clock.elapsed <= 8.0


def test_nothing_is_written_to_disk() -> None:
    played()
    assert not Path(os.environ["AGENTKIT_CACHE_DIR"]).exists()
