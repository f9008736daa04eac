"""Time limits of tasks, as the event loop sees them."""

from __future__ import annotations

import asyncio
import socket

import pytest

from agentkit.engine.drivers.timer import TaskLimit, Timer


@pytest.mark.parametrize("arrives", [True, False])
def test_what_arrived_while_the_event_loop_was_busy_is_in_time(arrives: bool) -> None:
    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        limit = TaskLimit(Timer(loop))

        def be_busy() -> None:
            if arrives:
                other.send(b"x")
            while loop.time() <= limit.due:
                pass

        loop.call_soon(be_busy)
        limit.start(0.001)
        try:
            return await loop.sock_recv(own, 1)
        except asyncio.CancelledError:
            assert limit.expired()
            return b""
        finally:
            limit.stop()

    own, other = socket.socketpair()
    with own, other:
        own.setblocking(False)
        assert asyncio.run(main()) == (b"x" if arrives else b"")
