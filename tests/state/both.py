"""The functions on a server, and the oracle beside them."""

from __future__ import annotations

from typing import Any

import redis
from redis.client import PubSub

from agentkit.state.local import LocalState
from agentkit.state.scripts import FUNCTIONS, read_function
from agentkit.types.fleet import Question

TEST_TIME = "local function now_ms() return tonumber(redis.call('GET', 'test:now')) end\n"
START = 1_000_000


class Both:
    """The scripts on a server with a clock that the test sets, and the oracle beside them."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._scripts = {
            name: client.register_script(TEST_TIME + read_function(name)) for name in FUNCTIONS
        }
        self.now = START
        self.messages: list[tuple[str, bytes]] = []
        self.local = LocalState(lambda: self.now, lambda *message: self.messages.append(message))
        client.flushall()
        self._heard = PubSub(client.connection_pool, ignore_subscribe_messages=True)
        self._heard.psubscribe("*")

    def advance(self, milliseconds: int) -> None:
        self.now += milliseconds

    def flush(self) -> None:
        self._client.flushdb()
        self.local.flush()

    def ask(self, question: Question) -> Any:
        self._client.set("test:now", self.now)
        theirs = self._scripts[question.function](keys=question.keys, args=question.args)
        ours = self.local.ask(question)
        assert theirs == ours, question
        return ours

    def heard(self) -> list[tuple[str, bytes]]:
        self._client.publish("end", b"")
        found = []
        while True:
            message = self._heard.get_message(timeout=5)
            if message is None:  # in place of an ignored one
                continue
            if message["channel"] == b"end":
                break
            found.append((message["channel"].decode(), message["data"]))
        return found

    def close(self) -> None:
        self._heard.close()
