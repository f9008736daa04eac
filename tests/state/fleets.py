"""Processes that share a store in memory, in virtual time: nothing waits, and nothing is random."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from agentkit.policy.limits import Lease, Member, Need, Pool, RateLimits
from agentkit.state.local import LocalState
from agentkit.state.questions import NEWS, beat, inbox_of
from agentkit.state.quota_questions import Offer, QuotaKeys, reserve
from agentkit.state.shared_limits import SharedLimits
from agentkit.types import Usage
from agentkit.types.fleet import Hear, MakeQuestions, Question, Receive

KEYS = QuotaKeys.of("group", "line")


class Store:
    """A server, with a clock of its own that runs as fast as that of the processes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.state = LocalState(lambda: int(self.now * 1000) + 1_700_000_000_000, self._publish)
        self.up = True
        self.fleets: list[ScriptedFleet] = []
        self._servers = 0

    def fail_over(self, backup: Any) -> None:
        """Another server takes over, with what it had copied before."""
        self._servers += 1
        self.state.quota.restore(backup, server=f"server-{self._servers}")

    def backup(self) -> Any:
        """A copy of what the server holds."""
        return self.state.quota.copy()

    def _publish(self, channel: str, data: bytes) -> None:
        for each in self.fleets:
            if channel in (inbox_of(each.process), NEWS):
                topic, _, rest = data.partition(b"\n")
                each.messages.append((topic.decode(), rest))


class ScriptedFleet:
    """A `Fleet` whose replies arrive when they are delivered."""

    def __init__(self, store: Store, process: str) -> None:
        self.process = process
        self.processes = 1
        self.session = self.mark = 0
        self.is_cluster = False
        self.messages: deque[tuple[str, bytes]] = deque()
        self.asked: list[Question] = []
        self.reaches_store = True
        self.lost_for = 0.0
        self._loses_replies = False
        self._parted_until = self._delayed_until = self.asleep_until = float("-inf")
        self._store = store
        self._waiting: deque[tuple[Question, Hear | None]] = deque()
        self._late: list[tuple[Hear | None, Any]] = []
        """Replies that are on their way."""
        self._receivers: dict[str, list[Receive]] = {}
        self._rounds: list[MakeQuestions] = []
        self._soon: dict[MakeQuestions, float] = {}
        store.fleets.append(self)

    @property
    def is_up(self) -> bool:
        reaches = self.reaches_store and self._store.now >= self._parted_until
        return self._store.up and reaches

    @property
    def is_asleep(self) -> bool:
        """Whether the process gets no processor."""
        return self._store.now < self.asleep_until

    def part(self, seconds: float) -> None:
        """Lose the connection for some time."""
        self._parted_until = self._store.now + seconds

    def lose_replies(self) -> None:
        """Lose the replies to the questions that come next."""
        self._loses_replies = True

    def delay_replies(self, seconds: float) -> None:
        """Pass on replies after some time, the last one first."""
        self._delayed_until = self._store.now + seconds

    def ask(self, question: Question) -> Any:
        raise NotImplementedError

    async def aask(self, question: Question) -> Any:
        raise NotImplementedError

    def lead(self, question: Question, release: Question) -> None:
        raise NotImplementedError

    def stop_leading(self, question: Question) -> None:
        raise NotImplementedError

    def become(self, process: str) -> None:
        """Continue as a forked child, whose inbox is new."""
        self.process = process
        self._receivers.clear()
        self.session += 1

    def catch_up(self) -> None:
        """Replies never wait to be read."""

    def post(self, question: Question, hear: Hear | None = None) -> None:
        if self.is_up:
            self._waiting.append((question, hear))
        elif hear is not None:
            hear(None)

    def subscribe(self, topic: str, receive: Receive) -> None:
        self._receivers.setdefault(topic, []).append(receive)

    def unsubscribe(self, topic: str, receive: Receive) -> None:
        if receive in self._receivers.get(topic, []):
            self._receivers[topic].remove(receive)

    def soon(self, make: MakeQuestions, seconds: float = 0.0) -> None:
        if self.is_up:
            at = self._store.now + seconds
            self._soon[make] = min(at, self._soon.get(make, at))

    def at_heartbeat(self, make: MakeQuestions) -> None:
        self._rounds.append(make)

    def stop_at_heartbeat(self, make: MakeQuestions) -> None:
        self._rounds.remove(make)

    def beat(self) -> None:
        """What a process does once a second, if it reaches the store."""
        if self.is_up and not self.is_asleep:
            found = self._store.state.ask(beat(self.process, self.mark))
            self.processes, _, self.mark = found
            for make in list(self._rounds):
                for question, hear in make():
                    self.post(question, hear)

    def deliver(self) -> bool:
        """Ask what was posted, pass on the replies and messages; whether there was any."""
        if self.is_asleep:
            return False
        for make in [each for each, at in self._soon.items() if at <= self._store.now]:
            del self._soon[make]
            for question, hear in make():
                self.post(question, hear)
        found = bool(self._waiting or self.messages)
        while self._waiting:
            question, hear = self._waiting.popleft()
            reply = None
            if self.is_up:
                self.asked.append(question)
                reply = self._store.state.ask(question)
            self._late.append((hear, None if self._loses_replies else reply))
        self._loses_replies = self._loses_replies and not found
        if self._store.now >= self._delayed_until:
            self._hear_replies()
        while self.messages:
            topic, rest = self.messages.popleft()
            if self.is_up:
                for receive in self._receivers.get(topic, []):
                    receive(rest)
        return found

    def _hear_replies(self) -> None:
        late, self._late = self._late, []
        for hear, reply in reversed(late) if self._delayed_until > 0 else late:
            if hear is not None:
                hear(reply)
        self._delayed_until = float("-inf")


class Process:
    """A process with one pool, whose calls are sent when they are granted."""

    def __init__(
        self,
        store: Store,
        name: str,
        limits: RateLimits | None,
        *,
        keys: int = 1,
        loss: Any = "share",
        concurrency: int | None = None,
    ) -> None:
        self.store = store
        self.fleet = ScriptedFleet(store, name)
        self.pool = Pool(
            [
                Member(name=f"key{n}", limits=limits, max_concurrency=concurrency)
                for n in range(keys)
            ],
            name="pool",
        )
        self.pauses: list[float] = []
        self.sharing = self.pool.sharing = SharedLimits(
            self.fleet,
            self.pool,
            keys=KEYS,
            names=[f"key{n}" for n in range(keys)],
            now=lambda: store.now,
            on_loss=loss,
            pause=self.pauses.append,
        )
        self.waiting: list[Lease] = []
        self.granted: list[Lease] = []
        self.sent: list[tuple[float, str, int]] = []

    def call(self, input_tokens: int = 0, priority: int = 0) -> Lease:
        lease = self.pool.request(Need(input_tokens), self.store.now, priority)
        self.waiting.append(lease)
        return lease

    def look(self) -> None:
        """Each waiting call looks, as its driver would when its time has come."""
        if self.fleet.is_asleep:
            return
        for each in list(self.waiting):
            if not each.granted:
                each.wait(self.store.now)
            if each.granted and each.member is not None:
                self.waiting.remove(each)
                self.granted.append(each)
                self.sent.append((self.store.now, each.member.name, each.need.input_tokens))

    def sleep(self, seconds: float) -> None:
        """Get no processor for some time, unless that is the case already."""
        if not self.fleet.is_asleep:
            self.fleet.asleep_until = self.store.now + seconds

    def finish(self, used: int | None = None) -> None:
        """The first call that was sent ends, with its real usage if it is known."""
        if self.granted:
            lease = self.granted.pop(0)
            lease.release(self.store.now, None if used is None else Usage(used, 0))

    def give_up(self) -> None:
        """The call that waits longest ends without having been sent."""
        if self.waiting:
            self.waiting.pop(0).release(self.store.now, sent=False)


class World:
    """Some processes and their store."""

    def __init__(self, count: int, limits: RateLimits | None, **options: Any) -> None:
        self.store = Store()
        self.processes = [Process(self.store, f"p{n}", limits, **options) for n in range(count)]
        self.settle()
        self.advance(4.0)

    def __getitem__(self, number: int) -> Process:
        return self.processes[number]

    def settle(self) -> None:
        """Until nothing more happens at this time."""
        for _ in range(1000):
            moved = [each.fleet.deliver() for each in self.processes]
            for each in self.processes:
                each.look()
            if not any(moved):
                return
        raise AssertionError("the processes never stop asking")

    def advance(self, seconds: float) -> None:
        """Let time pass, with a heartbeat each second."""
        end = self.store.now + seconds
        while self.store.now < end:
            lost = any(each.waiting and not each.fleet.is_up for each in self.processes)
            self.store.now = min(end, self.store.now + (0.25 if lost else 0.5))
            if int(self.store.now * 2) % 2 == 0:
                for each in self.processes:
                    each.fleet.beat()
            self.settle()

    def wait(self, seconds: float) -> None:
        """Let a short time pass, without heartbeats."""
        self.store.now += seconds
        self.settle()

    def counted(self, key: str = "key0") -> list[int]:
        """Requests, input and output tokens that the store counts."""
        names = KEYS.member(key, self.store.state.quota.server)
        offer = Offer(names, had=False, users=0, free=0, load=0, limits=(0, 0, 0, 0))
        question = reserve(KEYS, "test:0", self.store.state.quota.server, [offer], [])
        return list(self.store.state.ask(question)[3][:3])

    def fail_over(self, backup: Any) -> None:
        """Another server takes over. Each connection breaks, and a new one begins with a beat."""
        self.store.fail_over(backup)
        for each in self.processes:
            each.fleet.beat()

    def until(self, condition: Callable[[], bool], most: float = 130.0) -> float:
        """Let time pass until `condition`; how long that took."""
        begun = self.store.now
        while not condition():
            assert self.store.now < begun + most, "it never happened"
            self.advance(0.5)
        return self.store.now - begun

    def fullest(self, key: str = "key0") -> tuple[int, int]:
        """The most requests and tokens with one key in any 60 seconds, over all processes."""
        sent = sorted(row for each in self.processes for row in each.sent if row[1] == key)
        most, tokens = 0, 0
        for first, _, _ in sent:
            rows = [row for row in sent if first <= row[0] < first + 60.0]
            most, tokens = max(most, len(rows)), max(tokens, sum(row[2] for row in rows))
        return most, tokens
