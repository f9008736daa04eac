"""A primary with a replica that takes over without what was acknowledged last."""

from __future__ import annotations

from tests.helpers import until
from tests.state.proxy import Proxy
from tests.state.servers import Server, free_ports


class Pair:
    """A primary behind a proxy, and its replica."""

    def __init__(self, primary: Server, replica: Server, proxy: Proxy) -> None:
        self.primary, self.replica, self.proxy = primary, replica, proxy
        (port,) = free_ports(1)
        primary.run("CONFIG", "SET", "port", port, "repl-diskless-sync-delay", 0)
        replica.run("REPLICAOF", "127.0.0.1", port)
        until(lambda: replica.run("INFO", "replication")["master_link_status"] == "up")

    def replicate(self) -> None:
        """Let the replica get everything, and nothing after this."""
        assert self.primary.run("WAIT", 1, 20_000) == 1
        self.replica.run("REPLICAOF", "NO", "ONE")

    def fail_over(self) -> None:
        """Let the replica take over."""
        self.proxy.move_to(self.replica)
        self.primary.kill()
