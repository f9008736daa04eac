"""What wakes a coroutine outlives the coroutine's loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from agentkit.engine.drivers.clock import Wakeup


async def _waiting() -> tuple[Wakeup, asyncio.Task[bool]]:
    wakeup = Wakeup()
    waiter = asyncio.ensure_future(wakeup.wait(None))
    await asyncio.sleep(0)
    return wakeup, waiter


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_wakeup_whose_loop_is_closed_may_still_be_rung(elsewhere: bool) -> None:
    loop = asyncio.new_event_loop()
    wakeup, waiter = loop.run_until_complete(_waiting())
    loop.close()
    errors: list[Exception] = []

    def ring() -> None:
        try:
            wakeup.set()
        except Exception as error:
            errors.append(error)

    if elsewhere:
        thread = threading.Thread(target=ring)
        thread.start()
        thread.join()
    else:
        ring()
    assert (errors, wakeup.is_set) == ([], True)
    waiter._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_wakeup_wakes_its_coroutine() -> None:
    async def main() -> bool:
        wakeup, waiter = await _waiting()
        wakeup.set()
        return await waiter

    assert asyncio.run(main())
