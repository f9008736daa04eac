"""A budget that processes share holds for all of them, whatever is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit import Budget, ConfigurationError
from agentkit.policy.account import Entry
from agentkit.policy.period import PERIODS, Window, window_of
from agentkit.state.budgets import SharedBudgets
from agentkit.state.local import LocalState
from agentkit.state.questions import beat
from agentkit.types.fleet import Hear, MakeQuestions, Question, Receive

LIMIT = 1_000
DAY = 86_400_000


class Store:
    """Shared state whose clock a test sets."""

    def __init__(self) -> None:
        self.now = 20_000 * DAY
        self.state = LocalState(lambda: self.now, lambda *_: None)


class Member:
    """A process of a fleet, and its connection to the store; a `Fleet`."""

    def __init__(self, store: Store, name: str) -> None:
        self.process, self.processes, self.session = name, 2, 0
        self.is_up, self.is_cluster, self.mark = True, False, 0
        self.lost_for = 0.0
        self.fault: str | None = None
        self._store = store
        self._rounds: list[MakeQuestions] = []
        self._soon: list[tuple[float, MakeQuestions]] = []
        self.budgets = SharedBudgets(self, now=lambda: store.now / 1000)
        self.beat()

    def ask(self, question: Question) -> Any:
        fault = self.fault
        reply = None if fault == "cut" else self._store.state.ask(question)
        if fault is not None:
            self.session += 1
            return None
        return reply

    async def aask(self, question: Question) -> Any:
        return self.ask(question)

    def catch_up(self) -> None:
        """Replies never wait to be read."""

    def post(self, question: Question, hear: Hear | None = None) -> None:
        reply = self.ask(question)
        if hear is not None:
            hear(reply)

    def soon(self, make: MakeQuestions, seconds: float = 0.01) -> None:
        self._soon.append((self._store.now + seconds * 1000, make))
        self.pass_time()

    def pass_time(self) -> None:
        """Ask what is due; what can wait for 10 ms is."""
        due = [make for at, make in self._soon if at <= self._store.now + 10]
        self._soon = [row for row in self._soon if row[0] > self._store.now + 10]
        for make in due:
            for question, hear in make():
                self.post(question, hear)

    def at_heartbeat(self, make: MakeQuestions) -> None:
        self._rounds.append(make)

    def stop_at_heartbeat(self, make: MakeQuestions) -> None:
        self._rounds.remove(make)

    def beat(self) -> None:
        if (found := self.ask(beat(self.process, self.mark))) is not None:
            self.mark = found[2]
        for make in self._rounds:
            for question, hear in make():
                self.post(question, hear)

    def subscribe(self, topic: str, receive: Receive) -> None:
        raise NotImplementedError

    def unsubscribe(self, topic: str, receive: Receive) -> None:
        raise NotImplementedError

    def lead(self, question: Question, release: Question) -> None:
        raise NotImplementedError

    def stop_leading(self, question: Question) -> None:
        raise NotImplementedError


class Team:
    """Processes that share one budget, and all that they really have reserved or spent."""

    def __init__(self, count: int = 2, **options: Any) -> None:
        self.store = Store()
        self.members = [Member(self.store, f"p{i}") for i in range(count)]
        options = {"tokens": LIMIT, "per": "day", "scope": "team", "on_loss": "stop", **options}
        self.budgets = [Budget(now=lambda: self.store.now / 1000, **options) for _ in self.members]
        self.entries: list[tuple[int, Entry]] = []
        self.asked = 0
        """Reservations for which the store had to be asked."""
        for member, budget in zip(self.members, self.budgets, strict=True):
            member.budgets.reservation(budget, 0, 0.0)  # so that its heartbeats report it

    @property
    def spent(self) -> float:
        return sum(entry.tokens for _, entry in self.entries)

    def reserve(self, member: int, tokens: int) -> Entry | None:
        fleet, budget = self.members[member], self.budgets[member]
        entry = fleet.budgets.use_ahead(budget, tokens, tokens / 1000)
        if entry is not None:
            self.entries.append((member, entry))
            return entry
        self.asked += 1
        reservation = fleet.budgets.reservation(self.budgets[member], tokens, tokens / 1000)
        while isinstance(step := reservation.step(fleet.ask(reservation.question)), float):
            if step:  # all live processes have a heartbeat meanwhile
                self.beat()
                self.wait(max(1, round(step * 1000)))
        if step is not None:
            self.entries.append((member, step))
        return step

    def settle(self, number: int, part: int) -> None:
        if self.entries:
            member, entry = self.entries[number % len(self.entries)]
            self.budgets[member].account.settle(entry, min(part, entry.tokens), 0.0)

    def beat(self) -> None:
        for each in self.members:
            each.beat()

    def wait(self, milliseconds: int) -> None:
        self.store.now += milliseconds
        for each in self.members:
            each.pass_time()

    def play(self, kind: str, number: int, value: Any) -> None:
        """One step of a property."""
        member = self.members[number % 2]

        def burst() -> None:  # which reserves ahead
            for _ in range(6):
                self.reserve(number, value)

        def abandon() -> None:  # a caller is cancelled while its question is on its way
            reservation = member.budgets.reservation(self.budgets[number], value, 0.0)
            member.ask(reservation.question)
            reservation.close()

        acts: dict[str, Callable[[], Any]] = {
            "reserve": lambda: self.reserve(number, value),
            "burst": burst,
            "wait": lambda: self.wait(value),
            "settle": lambda: self.settle(number, value),
            "fault": lambda: setattr(member, "fault", value),
            "abandon": abandon,
            "beat": member.beat,
            "flush": self.store.state.flush,
        }
        acts[kind]()

    def heal(self) -> None:
        for each in self.members:
            each.fault = None


whom = st.integers(0, 1)
steps = st.one_of(
    st.tuples(st.just("reserve"), whom, st.integers(0, 400)),
    st.tuples(st.just("reserve"), whom, st.integers(0, 400)),
    st.tuples(st.just("burst"), whom, st.integers(0, 3)),
    st.tuples(st.just("wait"), whom, st.sampled_from([5, 50, 100, 300])),
    st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 400)),
    st.tuples(st.just("fault"), whom, st.sampled_from(["cut", "late", None])),
    st.tuples(st.just("abandon"), whom, st.integers(0, 400)),
    st.tuples(st.just("beat"), whom, st.just(0)),
    st.tuples(st.just("flush"), whom, st.just(0)),
)


@given(st.lists(steps, max_size=25))
@settings(max_examples=200)
def test_nothing_is_spent_beyond_the_limit_and_in_the_end_all_agree(taken: list[Any]) -> None:
    team = Team()
    for kind, number, value in taken:
        team.play(kind, number, value)
        assert team.spent <= LIMIT
    team.heal()
    team.wait(100)
    for _ in range(3):
        team.beat()
    spent = team.spent
    if any(kind == "flush" for kind, *_ in taken):  # what was granted without a reply may count
        spent = max(spent, team.budgets[0].spent_tokens)
    assert [each.spent_tokens for each in team.budgets] == [spent] * 2


def test_calls_in_quick_succession_reserve_ahead_and_give_back_what_they_do_not_use() -> None:
    team = Team(tokens=100_000)
    for _ in range(50):
        team.reserve(0, 10)
    assert team.asked <= 9
    assert team.budgets[0].spent_tokens == 500, "what is left of it is not spent"
    team.wait(100)
    team.members[1].beat()
    assert team.budgets[1].spent_tokens == 500
    asked = team.asked
    team.reserve(0, 10)
    assert team.asked == asked + 1


def test_a_small_part_of_a_budget_is_reserved_ahead_and_nothing_beyond_half_of_it() -> None:
    team = Team(tokens=LIMIT)
    for _ in range(20):
        team.reserve(0, 10)
    assert team.asked == 20 - 9, "at most one call more with each question"
    team.reserve(0, 295)
    asked = team.asked
    for _ in range(5):
        team.reserve(0, 10)
    assert team.asked == asked + 5


def test_what_is_reserved_ahead_refuses_no_call_of_another_process() -> None:
    team = Team(tokens=100_000)
    for _ in range(9):
        team.reserve(0, 100)
    assert team.reserve(1, 100_000 - 900) is not None


def test_a_budget_with_a_lower_limit_uses_nothing_that_was_reserved_for_another() -> None:
    team = Team(tokens=100_000)
    team.reserve(1, 500)
    for _ in range(9):
        team.reserve(0, 100)
    team.budgets[0] = Budget(tokens=LIMIT, per="day", scope="team")
    team.members[0].budgets.reservation(team.budgets[0], 0, 0.0)
    assert team.reserve(0, 100) is None


def test_spending_survives_its_processes_and_starts_anew_with_the_window() -> None:
    team = Team()
    entry = team.reserve(0, 600)
    assert entry is not None
    team.members[0].budgets.close()
    assert team.reserve(1, 500) is None
    assert team.budgets[1].spent_tokens == 600
    with pytest.raises(Exception, match="400 of 1,000 are left until 2024-10-05 00:00 UTC"):
        raise team.budgets[1].refusal(500, 0.5, "m")
    team.store.now += DAY
    assert team.reserve(1, 500) is not None
    assert team.budgets[1].spent_tokens == 500


def test_a_settlement_reaches_the_others_and_one_of_the_window_before_does_not_count() -> None:
    team = Team()
    entry = team.reserve(0, 900)
    assert entry is not None
    assert team.reserve(1, 500) is None
    team.settle(0, 100)
    assert team.reserve(1, 500) is not None
    team.store.now += DAY
    team.beat()
    team.settle(1, 0)
    assert team.reserve(0, LIMIT) is not None


@pytest.mark.parametrize(
    ("on_loss", "allowed"), [("stop", 0), ("share", 300), ("open", LIMIT - 200)]
)
def test_while_the_store_is_lost_a_budget_allows_what_it_says(on_loss: str, allowed: int) -> None:
    team = Team(on_loss=on_loss)
    team.reserve(0, 200)
    team.reserve(1, 200)
    team.beat()
    team.members[0].fault = "cut"
    assert team.reserve(0, allowed + 1) is None
    if allowed:
        assert team.reserve(0, allowed) is not None
        assert team.reserve(0, 1) is None
    team.heal()
    team.beat()
    assert team.budgets[1].spent_tokens == 400 + allowed, "what was spent alone is reported"


@pytest.mark.parametrize(
    ("on_loss", "part"), [("stop", "nothing"), ("share", "only its share of what was left")]
)
def test_a_refusal_says_that_the_store_is_lost(on_loss: str, part: str) -> None:
    team = Team(on_loss=on_loss)
    team.reserve(0, 200)
    team.beat()
    budget = team.budgets[0]
    assert f"of {LIMIT:,} are left" in str(budget.refusal(LIMIT, 0.0, "m"))
    team.members[0].fault = "cut"
    assert team.reserve(0, LIMIT - 200) is None
    found = str(budget.refusal(LIMIT - 200, 0.0, "m"))
    assert f"while the store of the fleet is lost, this process may spend {part} of" in found
    team.heal()
    team.beat()
    assert f"of {LIMIT:,} are left" in str(budget.refusal(LIMIT, 0.0, "m"))


def test_cents_fill_a_budget_to_its_limit() -> None:
    budget = Budget(usd=0.2)
    for _ in range(20):
        assert budget.account.reserve(0, 0.01, budget.limit) is not None
    assert budget.exhausted
    assert budget.account.reserve(0, 0.000001, budget.limit) is None


def test_a_process_that_never_reached_the_store_has_its_own_limit() -> None:
    team = Team(on_loss="share")
    team.members[0].fault, team.members[0].processes = "cut", 1
    assert team.reserve(0, LIMIT) is not None
    assert team.reserve(0, 1) is None


def test_what_dead_processes_spent_is_not_forgotten_with_the_store() -> None:
    team = Team()
    team.reserve(0, 600)
    team.reserve(1, 100)
    del team.members[0], team.budgets[0]
    team.entries = [(0, entry) for _, entry in team.entries]
    team.store.state.flush()
    assert team.reserve(0, 400) is None
    assert team.reserve(0, 300) is not None


def test_after_a_flush_a_process_that_never_heard_of_a_budget_waits_for_the_others() -> None:
    team = Team()
    team.reserve(0, 900)
    team.store.state.flush()
    assert team.reserve(1, 200) is None
    assert team.reserve(1, 100) is not None


def test_a_clock_that_is_wrong_by_days_does_not_matter() -> None:
    team = Team()
    team.reserve(1, 600)
    wrong: Callable[[], float] = lambda: team.store.now / 1000 + 5 * 86_400  # noqa: E731
    team.budgets[0] = Budget(tokens=LIMIT, per="day", scope="team", now=wrong)
    assert team.reserve(0, 500) is None
    assert team.reserve(0, 400) is not None


def test_a_clock_of_the_store_that_jumps_back_keeps_the_window() -> None:
    team = Team()
    team.reserve(0, 600)
    team.store.now -= DAY
    assert team.reserve(1, 500) is None
    assert team.reserve(1, 400) is not None


def test_budgets_of_one_scope_share_their_spending_without_a_fleet_too() -> None:
    one, other = (Budget(tokens=100, scope="without a fleet") for _ in range(2))
    one.add(60, 0.0)
    assert other.spent_tokens == 60
    assert Budget(tokens=100, scope="without a fleet", per="day").spent_tokens == 0
    assert Budget(tokens=100).spent_tokens == 0


def test_a_window_of_a_budget_without_a_fleet_ends_at_midnight() -> None:
    now = [0.0]
    budget = Budget(usd=1.0, per="day", now=lambda: now[0])
    budget.add(0, 1.0)
    assert budget.exhausted
    now[0] = 86_399.0
    assert budget.exhausted
    assert repr(budget) == "<Budget 1.0000/1.0000 USD, per day>"
    now[0] = 86_400.0
    assert budget.spent_usd == 0.0


@given(st.sampled_from(PERIODS), st.floats(0, 4e9))
def test_windows_follow_each_other_without_a_gap(period: Any, now: float) -> None:
    window = window_of(period, now)
    assert window.has(now)
    assert window_of(period, window.start) == window
    assert window_of(period, window.end).start == window.end


def test_a_window_is_a_calendar_unit_in_utc() -> None:
    thursday = 1_709_210_096.0  # 2024-02-29 12:34:56
    hour = 3_600.0
    assert window_of("hour", thursday) == Window(1_709_208_000.0, 1_709_211_600.0)
    assert window_of("day", thursday) == Window(1_709_164_800.0, 1_709_251_200.0)
    assert window_of("week", thursday).start == 1_709_164_800.0 - 3 * 24 * hour
    assert window_of("month", thursday) == Window(1_706_745_600.0, 1_709_251_200.0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"per": "year"}, "got 'year'\n\nhint: pass one of these, such as 'hour'"),
        ({"per": 60}, "per must be 'hour', 'day', 'week' or 'month', got 60"),
        ({"scope": None}, "team"),
        ({"scope": "x" * 201}, "team"),
        ({"on_loss": "closed"}, "on_loss must be 'share', 'stop' or 'open', got 'closed'"),
        ({"period": "day"}, "per="),
    ],
)
def test_odd_values_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Budget(usd=1.0, **wrong)
    assert says in str(caught.value)
