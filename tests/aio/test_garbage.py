"""What a connection leaves behind is freed at once: a batch need not wait for the collector."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest

from hussh.aio import AsyncConnection
from hussh.errors import ConnectTimeout
from tests.aio.conftest import Make
from tests.support.listeners import MuteListener
from tests.support.sshd import Sshd

TIMES = 5


def garbage_of(once: Callable[[], Awaitable[None]]) -> int:
    """How many objects only the collector could free after some calls; the first is not counted."""

    async def several() -> int:
        await once()
        gc.collect()
        gc.disable()
        try:
            for _ in range(TIMES):
                await once()
            return gc.collect()
        finally:
            gc.enable()

    return asyncio.run(several())


def test_of_a_connection(target: Sshd, make: Make) -> None:
    """One that was used and closed leaves no cycle."""

    async def once() -> None:
        async with make(target) as connection:
            await connection.execute("true")

    assert garbage_of(once) < TIMES


def test_of_a_failure(mute_listener: MuteListener) -> None:
    """Nor does one that could not be opened, whose error holds the frames that it came through."""

    async def once() -> None:
        with pytest.raises(ConnectTimeout):
            await AsyncConnection(
                mute_listener.host, "nobody", "p", port=mute_listener.port, timeout=0.05
            )

    assert garbage_of(once) < TIMES
