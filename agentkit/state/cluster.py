"""A connection to each node of a cluster, used as if they were one server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from agentkit.state.address import Address, client_of, connect, parse_address
from agentkit.state.link import Command, Link

if TYPE_CHECKING:
    import redis

_SHIFT: Final = 16
"""A cursor of a scan has the number of the node below these bits."""

Node: TypeAlias = tuple[str, int]
AnyLink: TypeAlias = "Link | ClusterLink"


class ClusterLink:
    """Sends each command to the node that has its key; see `Link`.

    The keys of one command must have one hash tag. A node that moved a key, or is moving it,
    names the other one, which is then asked.

    Raises:
        redis.RedisError: no node that the address names knows the cluster.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._links: dict[Node, Link] = {}
        self._ranges: list[tuple[int, int, Node]] = []
        self._under_way: list[tuple[Link, list[int]]] = []
        self._commands: Sequence[Command] = ()
        self._learn()

    @property
    def nodes(self) -> list[Node]:
        """The nodes that have keys."""
        return sorted({node for *_, node in self._ranges})

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        """See `Link.execute`."""
        shares: dict[Node, list[int]] = {}
        for i, command in enumerate(commands):
            shares.setdefault(self._node_of(command), []).append(i)
        self._commands, self._under_way = commands, []
        for node, share in shares.items():
            link = self._link(node)
            link.send([commands[i] for i in share])
            self._under_way.append((link, share))
        return self.finish()

    def finish(self) -> list[Any]:
        """See `Link.finish`."""
        replies: list[Any] = [None] * len(self._commands)
        for link, share in self._under_way:
            for i, reply in zip(share, link.finish(), strict=True):
                replies[i] = reply
        self._under_way = []
        moved = False
        for i, reply in enumerate(replies):
            kind, node = _redirection(reply)
            if node is not None:
                moved |= kind == "MOVED"
                asking: list[Command] = [("ASKING",)] if kind == "ASK" else []
                replies[i] = self._link(node).execute([*asking, self._commands[i]])[-1]
        if moved:
            self._learn()
        return replies

    def scan(self, cursor: int, pattern: str, count: int) -> tuple[int, list[bytes]]:
        """See `Link.scan`: one node after the other."""
        nodes = self.nodes
        number, inner = cursor & ((1 << _SHIFT) - 1), cursor >> _SHIFT
        if number >= len(nodes):
            return 0, []
        inner, keys = self._link(nodes[number]).scan(inner, pattern, count)
        if inner == 0:
            number += 1
            return (0 if number == len(nodes) else number), keys
        return inner << _SHIFT | number, keys

    def close(self) -> None:
        """Close every connection."""
        links, self._links = self._links, {}
        for each in links.values():
            each.close()

    def _node_of(self, command: Command) -> Node:
        from redis import exceptions
        from redis.crc import key_slot

        key = _key_of(command)
        slot = 0 if key is None else key_slot(key if isinstance(key, bytes) else key.encode())
        for first, last, node in self._ranges:
            if first <= slot <= last:
                return node
        raise exceptions.ConnectionError("no node of the cluster has the slot")

    def _link(self, node: Node) -> Link:
        link = self._links.get(node)
        if link is None:
            client = client_of(self._address, *node)
            link = self._links[node] = Link(client.connection_pool.get_connection(), client)
        return link

    def _learn(self) -> None:
        """Ask the nodes, known or named, which of them has which keys."""
        from redis.exceptions import RedisError

        failure: Exception | None = None
        for node in dict.fromkeys((*self.nodes, *self._address.hosts)):
            try:
                (found,) = self._link(node).execute([("CLUSTER", "SLOTS")])
                if isinstance(found, Exception):
                    raise found
            except (RedisError, OSError) as error:
                self._links.pop(node, None)
                failure = error
                continue
            self._ranges = [
                (first, last, (primary[0].decode() or node[0], primary[1]))
                for first, last, primary, *_ in found
            ]
            return
        if failure is not None:
            raise failure


def open_store(url: str) -> tuple[AnyLink, redis.Redis]:
    """A connection for questions to the store at `url`, and a client for the inbox.

    Raises:
        redis.RedisError, OSError: it cannot be reached.
    """
    address = parse_address(url)
    if address.kind == "cluster":
        cluster = ClusterLink(address)
        return cluster, client_of(address, *cluster.nodes[0])
    client = connect(url)
    return Link(client.connection_pool.get_connection(), client), client


def _key_of(command: Command) -> str | bytes | None:
    """The first key of a command of this package; None if it has none."""
    name = command[0]
    if name in ("EVAL", "EVALSHA") and len(command) > 3:
        key = command[3]
    elif name == "UNLINK":
        key = command[1]
    else:
        return None
    return None if isinstance(key, int) else key


def _redirection(reply: Any) -> tuple[str, Node | None]:
    """The kind of a redirection, and the node that it names."""
    from redis import exceptions

    if isinstance(reply, exceptions.AskError):
        kind = "MOVED" if isinstance(reply, exceptions.MovedError) else "ASK"
        return kind, (reply.host, reply.port)
    return "", None
