"""What wakes a coroutine outlives the coroutine's loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from agentkit.engine.drivers.asyncio import Bell


async def _waiting() -> tuple[Bell, asyncio.Task[bool]]:
    bell = Bell()
    waiter = asyncio.ensure_future(bell.wait(None))
    await asyncio.sleep(0)
    return bell, waiter


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_bell_whose_loop_is_closed_may_still_be_rung(elsewhere: bool) -> None:
    loop = asyncio.new_event_loop()
    bell, waiter = loop.run_until_complete(_waiting())
    loop.close()
    told: list[Exception] = []

    def ring() -> None:
        try:
            bell.ring()
        except Exception as error:
            told.append(error)

    if elsewhere:
        thread = threading.Thread(target=ring)
        thread.start()
        thread.join()
    else:
        ring()
    assert (told, bell.rung) == ([], True)
    waiter._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_bell_wakes_its_coroutine() -> None:
    async def main() -> bool:
        bell, waiter = await _waiting()
        bell.ring()
        return await waiter

    assert asyncio.run(main())
