"""The servers of a store, and the lines on which threads ask them: one, or one for each node.

In a cluster, each question goes to the node that has its keys. A node that moved a key, or is
moving it, names the other one, which is then asked.
"""

from __future__ import annotations

import time
from binascii import crc_hqx
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from agentkit._fork import WakeSignal, fork_safe_lock
from agentkit.state.address import PATIENCE, Address, client_of, connect, parse_address
from agentkit.state.line import Line, Node, Pending, Trips, wait_for
from agentkit.state.loops import Lines, Loops
from agentkit.state.resp import Command, ReplyError
from agentkit.state.sockets import open_socket
from agentkit.types.fleet import Question

if TYPE_CHECKING:
    import redis

_SLOTS: Final = 16_384
_NOWHERE: Final = ("", 0)


class Store:
    """The connections to a store.

    Args:
        url: where it is.
        deliver: gets each question with its reply, which may be a `ReplyError`, on any thread.
        lost: called with a line, and the reason why it can no longer be used.
        wake: called when `follow` has something to do.
        trips: counts the replies.
        name: part of the names of threads.

    Raises:
        OSError, ReplyError, redis.RedisError: it cannot be reached.
    """

    def __init__(
        self,
        url: str,
        *,
        deliver: Callable[[Pending, Any], None],
        lost: Callable[[Line, Exception], None],
        wake: Callable[[], None],
        trips: Trips,
        name: str = "",
    ) -> None:
        self._address = parse_address(url)
        self._final, self._lost, self._wake, self._trips = deliver, lost, wake, trips
        self._lock = fork_safe_lock()
        self._ranges: list[tuple[int, int, Node]] = []
        self._redirected: deque[tuple[Pending, ReplyError]] = deque()
        self.lines: dict[Node, Line] = {}
        """Those on which threads ask."""
        self.loops = Loops(self.open_lines, name=name)
        client = connect(url)
        if self._address.kind == "cluster":
            self._learn(self._address.hosts)
            client = client_of(self._address, *self.nodes[0])
        else:
            self._ranges = [(0, _SLOTS, _server_of(self._address, client))]
            self._line(self._ranges[0][2])
        self.client: redis.Redis = client
        """For messages."""

    @property
    def nodes(self) -> list[Node]:
        """The servers that have keys."""
        return sorted({node for *_, node in self._ranges})

    def open_lines(self) -> dict[Node, Line]:
        """Other lines to all servers, for an event loop.

        Raises:
            OSError, ReplyError: one cannot be reached.
        """
        opened: dict[Node, Line] = {}
        try:
            for node in self.nodes:
                opened[node] = self._open(node)
        except BaseException:
            for each in opened.values():
                each.close()
            raise
        return opened

    @property
    def all_lines(self) -> list[Line]:
        """Those of threads and of event loops."""
        return [*tuple(self.lines.values()), *self.loops.all_lines]

    def line_of(self, pending: Pending, lines: Lines | None = None) -> Line:
        """The line on which to ask: one of `lines` if the right one is among them."""
        if len(self._ranges) == 1:
            node = self._ranges[0][2]
        else:
            question = pending.question
            node = self._node_of(question.keys[0] if question and question.keys else "")
        own = None if lines is None else lines.get(node)
        return own or self.lines.get(node) or next(iter(self.lines.values()))

    def ask(self, question: Question) -> Any:
        """The reply to `question`.

        Raises:
            ReplyError: the server refuses.
            OSError: it does not answer.
        """
        pending = Pending(question, signal=WakeSignal())
        self.line_of(pending).send(pending)
        reply = self._reply_to(pending)
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def read_newest(self, seconds: float) -> None:
        """Read, for all, until what was asked last has its reply, unless another thread reads."""
        for line in self.lines.values():
            newest = line.newest
            if newest is not None:
                line.lead(newest, time.monotonic() + seconds)

    def execute(self, node: Node, *commands: Command) -> list[Any]:
        """The replies of one server to other commands. An error of the server is returned."""
        line = self._line(node)
        asked = [Pending(None, other=each, signal=WakeSignal()) for each in commands]
        for each in asked:
            line.send(each)
        return [self._reply_to(each) for each in asked]

    def delete(self, key: str) -> None:
        """Delete a key.

        Raises:
            ReplyError: the server refuses.
            OSError: it does not answer.
        """
        (reply,) = self.execute(self._node_of(key), ("UNLINK", key))
        if isinstance(reply, ReplyError):
            raise reply

    def scan(self, node: Node, cursor: int, pattern: str, count: int) -> tuple[int, list[bytes]]:
        """The next cursor of one server, and some of its keys that match.

        Raises:
            ReplyError: it refuses.
            OSError: it does not answer.
        """
        (found,) = self.execute(node, ("SCAN", cursor, "MATCH", pattern, "COUNT", count))
        if isinstance(found, ReplyError):
            raise found
        return int(found[0]), found[1]

    def deliver(self, pending: Pending, reply: Any) -> None:
        """Pass on a reply, unless it says that the question has to be asked in another way."""
        if type(reply) is ReplyError and pending.question is not None:
            if reply.code == "NOSCRIPT" and pending.line is not None:
                pending.send_text()
                pending.line.send(pending)
                return
            if reply.code in ("MOVED", "ASK") and self._address.kind == "cluster":
                self._redirected.append((pending, reply))
                self._wake()
                return
        self._final(pending, reply)

    @property
    def has_to_follow(self) -> bool:
        """Whether a node has named another one."""
        return bool(self._redirected)

    def follow(self) -> None:
        """Ask those nodes that others have named. Connects, and waits for that.

        Raises:
            OSError, ReplyError: none of the nodes answers.
        """
        moved = False
        while self._redirected:
            pending, reply = self._redirected[0]
            _, _, place = str(reply).split(" ")[:3]
            host, _, port = place.rpartition(":")
            line = self._line((host or self.nodes[0][0], int(port)))
            if reply.code == "ASK":
                pending.send_asking()
            else:
                moved = True
            self._redirected.popleft()
            line.send(pending)
        if moved:
            self._learn(self.nodes)

    def close(self, error: Exception) -> list[Pending]:
        """Close every line; the questions without a reply."""
        left = [pending for pending, _ in self._redirected]
        self._redirected.clear()
        for each in tuple(self.lines.values()):
            left += each.shut(error)
        return left + self.loops.close(error)

    def _reply_to(self, pending: Pending) -> Any:
        wait_for(pending, PATIENCE)
        if self._redirected:
            self.follow()
            wait_for(pending, PATIENCE)
        if not pending.is_done:
            raise TimeoutError("the server is silent")
        if pending.reply is None:
            raise ConnectionError("the connection was lost")
        return pending.reply

    def _node_of(self, key: str) -> Node:
        slot = _slot_of(key)
        for first, last, node in self._ranges:
            if first <= slot <= last:
                return node
        return self.nodes[0]  # which says that the slot is not served

    def _line(self, node: Node) -> Line:
        line = self.lines.get(node)
        if line is None or line.is_broken:
            line = self._open(node)
            with self._lock:
                self.lines = {**self.lines, node: line}
        return line

    def _open(self, node: Node) -> Line:
        sock = open_socket(self._address, node)
        return Line(sock, node, self.deliver, self._lost, self._trips)

    def _learn(self, known: Any) -> None:
        """Ask the nodes, known or named, which of them has which keys; connect to each of those."""
        failure: Exception | None = None
        for node in dict.fromkeys((*known, *self._address.hosts)):
            try:
                (found,) = self.execute(node, ("CLUSTER", "SLOTS"))
                if isinstance(found, ReplyError):
                    raise found
            except (ReplyError, OSError) as error:
                failure = error
                continue
            ranges = [
                (first, last, (primary[0].decode() or node[0], primary[1]))
                for first, last, primary, *_ in found
            ]
            for *_, each in ranges:
                self._line(each)
            self._ranges = ranges
            return
        if failure is not None:
            raise failure


def _server_of(address: Address, client: Any) -> Node:
    """The only server of a store without a cluster."""
    if address.kind == "sentinel":
        host, port = client.connection_pool.get_master_address()
        return str(host), int(port)
    return address.hosts[0] if address.hosts else _NOWHERE


def _slot_of(key: str) -> int:
    """The slot of a key: that of its hash tag, if it has one."""
    _, opened, rest = key.partition("{")
    tag, closed, _ = rest.partition("}")
    hashed = tag if opened and closed and tag else key
    return crc_hqx(hashed.encode(), 0) % _SLOTS
