"""The demo's outage, in a time that a test owns: what it tells is what the manager did."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agentkit.cli.outage import CALM, FALLBACK, PRIMARY, Outage
from agentkit.cli.story import Beat
from agentkit.testing.clock import FakeClock


def played(clock: FakeClock | None = None) -> Outage:
    clock = clock or FakeClock()
    with Outage(CALM, clock=clock, sleep=clock.sleep) as outage:
        outage.play()
    return outage


def scenes(outage: Outage) -> list[list[Beat]]:
    parts: list[list[Beat]] = []
    for beat in outage.story.beats:
        if beat.kind == "scene":
            parts.append([])
        parts[-1].append(beat)
    return parts


def told(beats: list[Beat], *kinds: str) -> list[tuple[Any, ...]]:
    """Kind, model and the fact that matters of each beat of these kinds."""
    telling = {"attempt": "outcome", "skipped": "reason", "breaker": "state",
               "response_cache": "verdict", "answer": "sent"}  # fmt: skip
    return [
        (beat.kind, beat.facts["model"], beat.facts[telling[beat.kind]])
        for beat in beats
        if beat.kind in (kinds or telling)
        and not (beat.kind == "response_cache" and beat.facts["verdict"] == "miss")
    ]


def test_healthy_models_answer_at_the_first_attempt() -> None:
    well = scenes(played())[0]
    assert told(well) == 2 * [("attempt", PRIMARY, "success"), ("answer", PRIMARY, 1)]


def test_an_outage_is_retried_and_then_answered_by_the_fallback() -> None:
    down = scenes(played())[1]
    assert told(down) == [
        *3 * [("attempt", PRIMARY, "failure")],
        ("attempt", FALLBACK, "success"),
        ("answer", FALLBACK, 4),
    ]
    delays = [beat.facts["delay"] for beat in down if beat.kind == "back_off"]
    assert len(delays) == 2
    assert delays[0] < delays[1]


def test_the_fifth_failure_in_a_row_opens_the_breaker_and_is_told_before_it() -> None:
    assert told(scenes(played())[2]) == [
        *2 * [("attempt", PRIMARY, "failure")],
        ("breaker", PRIMARY, "open"),
        ("attempt", FALLBACK, "success"),
        ("answer", FALLBACK, 3),
    ]


def test_an_open_breaker_sends_nothing_to_its_model() -> None:
    assert told(scenes(played())[3]) == [
        ("skipped", PRIMARY, "circuit_open"),
        ("attempt", FALLBACK, "success"),
        ("answer", FALLBACK, 1),
    ]


def test_earlier_answers_come_from_the_response_cache_of_whoever_gave_them() -> None:
    assert told(scenes(played())[4]) == [
        ("response_cache", PRIMARY, "hit"),
        ("answer", PRIMARY, 0),
        ("skipped", PRIMARY, "circuit_open"),
        ("response_cache", FALLBACK, "hit"),
        ("answer", FALLBACK, 0),
    ]


def test_a_probe_after_the_recovery_time_closes_the_breaker() -> None:
    assert told(scenes(played())[5]) == [
        ("breaker", PRIMARY, "half-open"),
        ("attempt", PRIMARY, "success"),
        ("breaker", PRIMARY, "closed"),
        ("answer", PRIMARY, 1),
        ("attempt", PRIMARY, "success"),
        ("answer", PRIMARY, 1),
    ]


def test_the_scoreboard_counts_what_the_story_told() -> None:
    outage = played()
    scores = outage.scoreboard()
    for name, score in scores["models"].items():
        mine = [
            beat.facts
            for beat in outage.story.beats
            if beat.kind == "attempt" and beat.facts["model"] == name
        ]
        successes = [facts for facts in mine if facts["outcome"] == "success"]
        assert score["attempts"] == len(mine)
        assert score["success_rate"] == pytest.approx(len(successes) / len(mine))
        assert score["breaker"] == "closed"
    kinds = [beat.kind for beat in outage.story.beats]
    totals = scores["totals"]
    assert totals["total_requests"] == kinds.count("question") == kinds.count("answer")
    assert totals["total_retries"] == kinds.count("back_off")
    assert totals["cache_hits"] == 2
    assert scores["models"][PRIMARY]["breaker_opened"] == 1
    assert scores["models"][PRIMARY]["breaker_refused"] == 2


def test_nothing_is_told_that_did_not_happen() -> None:
    """A primary that stays up has no failure, no retry and no open breaker to tell of."""
    clock = FakeClock()

    def repair(beat: Beat) -> None:
        if beat.kind == "question":
            outage.models[PRIMARY].up = True

    outage = Outage(CALM, repair, clock=clock, sleep=clock.sleep)
    with outage:
        outage.play()
    kinds = {beat.kind for beat in outage.story.beats}
    assert kinds.isdisjoint({"back_off", "skipped", "fallback", "breaker", "failure"})
    assert outage.scoreboard()["models"][PRIMARY]["success_rate"] == 1.0
    assert outage.scoreboard()["models"][FALLBACK]["attempts"] == 0


def test_time_in_the_story_never_goes_back() -> None:
    beats = played().story.beats
    assert all(earlier.at <= later.at for earlier, later in pairwise(beats))


def test_the_whole_takes_six_to_eight_seconds() -> None:
    clock = FakeClock()
    played(clock)
    assert 6.0 <= clock.elapsed <= 8.0


def test_nothing_is_written_to_disk() -> None:
    played()
    assert not Path(os.environ["AGENTKIT_CACHE_DIR"]).exists()
