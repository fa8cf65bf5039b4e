"""What a user drops without closing it lets go of its channel at once, without the collector."""

from __future__ import annotations

import contextlib
import gc
import weakref
from time import monotonic
from typing import Any

import pytest

from tests.conformance.client import Client
from tests.conformance.conftest import THREE
from tests.support.streams import live_objects


async def popen(client: Client) -> Any:
    process = await client.awaited.popen("echo on; cat")
    assert await process.stdout.readline() == b"on\n"
    await process.say(b"x")
    return process


async def shell(client: Client) -> Any:
    opened = client.awaited.shell()
    entered = await opened.__aenter__()
    await entered.send("true")
    return entered


async def tail(client: Client) -> Any:
    opened = client.awaited.tail("dropped")
    entered = await opened.__aenter__()
    assert await entered.read() == ""
    return entered


async def file(client: Client) -> Any:
    opened = await client.awaited.sftp.open("dropped", "r+b")
    assert await opened.read(1) == b"x"
    return opened


async def text(client: Client) -> Any:
    opened = await client.awaited.sftp.open("dropped", "r+", encoding="utf-8")
    assert await opened.read(1) == "x"
    return opened


def parts(made: Any) -> list[weakref.ref[Any]]:
    """The object that the user has, and what it is made of."""
    found, todo = [], [getattr(made, "real", made)]
    while todo:
        part = todo.pop()
        with contextlib.suppress(TypeError):  # not everything can be referred to weakly
            found.append(weakref.ref(part))
        names = ("buffer", "raw", "stdin", "stdout", "stderr", "_file", "_flow", "_channel")
        todo += [getattr(part, name) for name in names if hasattr(part, name)]
    return found


@pytest.mark.parametrize("client", THREE, indirect=True)
@pytest.mark.parametrize("make", [popen, shell, tail, file, text])
async def test_dropped(client: Client, make: Any) -> None:
    """Nothing of it is in a cycle, and its place at the server is free again."""
    path = client.server.alice.files / "dropped"
    path.write_text("x" * 10)
    path.chmod(0o666)
    await client.awaited.sftp.exists("dropped")  # the channel for files stays
    for _ in range(4):  # from then on the connection has a spare session
        await client.execute("true")
    gc.collect()
    before = live_objects()
    gc.disable()
    try:
        made = await make(client)
        left = parts(made)
        del made
        end = monotonic() + 20
        while live_objects() != before:
            assert monotonic() < end
            await client.execute("true")
        assert [reference() for reference in left if reference() is not None] == []
    finally:
        gc.enable()
