"""`execute` with `check`, `pty`, `env` and `on_output`, and the order in which output arrived."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest

from hussh import ChannelError, CommandFailed, CommandTimeout, Pty, SSHResult
from hussh._results.arrival import join_in_order, make_pair, runs_of
from tests.conformance.awaited import Awaited
from tests.conformance.client import Client
from tests.conformance.conftest import FOUR, THREE
from tests.support.asyncssh_server import PASSWORD, asyncssh_server
from tests.support.sshd import Sshd

#: Writes on both streams in turns. The next word is written when the one before has been read:
#: its reader then writes to a named pipe, of which each turn has its own.
TURNS = """
cd {0}; for i in 0 1 2 3 4; do
    echo out$i; read x <out$i; echo err$i >&2; read x <err$i
done
"""


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_output_in_the_order_of_arrival(client: Client) -> None:
    """What was written after the word before had arrived stands behind it, on whichever stream."""
    conn = client.awaited
    came: list[tuple[str, bytes]] = []
    with client.account.folder("turns") as folder:

        def take(stream: str, part: bytes) -> None:
            came.append((stream, part))
            with (folder / part.decode().strip()).open("w") as pipe:  # once the command reads it
                pipe.write("go\n")

        for number in range(5):
            for kind in ("out", "err"):
                os.mkfifo(folder / f"{kind}{number}")
                os.chmod(folder / f"{kind}{number}", 0o666)
        result = await conn.execute(TURNS.format(client.account.path("turns")), on_output=take)
    words = [(f"std{kind}", f"{kind}{i}\n".encode()) for i in range(5) for kind in ("out", "err")]
    assert came == words
    assert result.output_bytes == b"".join(word for _, word in words)
    assert result.stdout_bytes == b"out0\nout1\nout2\nout3\nout4\n"
    again = pickle.loads(pickle.dumps(result))
    assert (again, again.output_bytes) == (result, result.output_bytes)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_all_output_is_handed_out(client: Client) -> None:
    """The parts that a callback gets are all of the output, exactly, whatever the amount."""
    parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    command = "head -c 3000000 /dev/zero | tr '\\0' o; head -c 1000000 /dev/zero | tr '\\0' e >&2"
    result = await client.awaited.execute(
        command, on_output=lambda stream, part: parts[stream].append(part)
    )
    assert b"".join(parts["stdout"]) == result.stdout_bytes == b"o" * 3_000_000
    assert b"".join(parts["stderr"]) == result.stderr_bytes == b"e" * 1_000_000
    assert sorted(result.output_bytes) == sorted(result.stderr_bytes + result.stdout_bytes)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_a_callback_that_raises(client: Client) -> None:
    """Its exception goes on, the command is stopped, and the connection stays usable."""

    def refuse(stream: str, part: bytes) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await client.awaited.execute("echo begun; exec sleep 1000", on_output=refuse)
    assert (await client.execute("echo on")).stdout == "on\n"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_a_callback_that_is_awaited(client: Client) -> None:
    """A coroutine function is awaited by the async API and refused by the other one."""
    came: list[bytes] = []

    async def take(stream: str, part: bytes) -> None:
        came.append(part)

    if client.api.name == "sync":
        with pytest.raises(TypeError, match="on_output is a coroutine function"):
            await client.awaited.execute("echo x", on_output=take)
    else:
        await client.awaited.execute("echo x", on_output=take)
        assert came == [b"x\n"]
    with pytest.raises(TypeError, match="on_output must be callable"):
        await client.awaited.execute("echo x", on_output=1)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_a_callback_may_use_the_connection(client: Client) -> None:
    """A callback may run other commands on the same connection, and time goes on meanwhile."""
    found: list[SSHResult] = []

    def ask(stream: str, part: bytes) -> None:
        found.append(client.main.real.execute("echo inner"))

    async def await_it(stream: str, part: bytes) -> None:
        found.append(await client.main.real.execute("echo inner"))

    call: Any = ask if client.api.name == "sync" else await_it
    result = await client.awaited.execute("echo outer", on_output=call)
    assert (found[0].stdout, result.stdout) == ("inner\n", "outer\n")


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_check(client: Client) -> None:
    """With `check` another status than 0, or a signal, is a CommandFailed that has the result."""
    conn = client.awaited
    assert (await conn.execute("echo fine", check=True)).stdout == "fine\n"
    with pytest.raises(CommandFailed, match=r"failed with status 3: last words \[alice@") as caught:
        await conn.execute("echo out; echo first >&2; echo 'last words' >&2; exit 3", check=True)
    assert caught.value.result == SSHResult(b"out\n", b"first\nlast words\n", 3)
    assert caught.value.phase == "exec"
    assert caught.value.hop == f"alice@{client.server.host}:{client.server.port}"
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.result) == (str(caught.value), caught.value.result)
    with pytest.raises(CommandFailed, match="was killed by SIGTERM"):
        await conn.execute("kill -TERM $$", check=True)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_terminal(client: Client) -> None:
    """With `pty` the command has a terminal of that size, one stream, and an end of its input."""
    conn = client.awaited
    result = await conn.execute("tty; stty size; echo err >&2", pty=Pty("vt100", 100, 40))
    assert result.stdout.startswith("/dev/pts/")
    assert result.stdout.endswith("40 100\r\nerr\r\n")
    assert result.stderr == ""
    for given in ("line\n", "line", None):
        result = await conn.execute("stty -echo; cat; echo over", pty=True, input=given, timeout=60)
        text = result.stdout.replace("\r\n", "\n")
        assert text.endswith(f"{(given or '')}over\n"), (given, text)
    with pytest.raises(TypeError, match="pty must be"):
        await conn.execute("true", pty="xterm")


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_variables(
    client: Client, sshd_factory: Callable[..., Sshd], recwarn: pytest.WarningsRecorder
) -> None:
    """`env` sets what the server accepts, and silently nothing else."""
    server = sshd_factory(options={"AcceptEnv": "HUSSH_*"})
    conn = Awaited((await client.connect_to(server)).real)
    env = {"HUSSH_A": "a b\n$c", "OTHER": "x"}
    result = await conn.execute('printf %s "$HUSSH_A-${OTHER-none}"', env=env)
    assert result.stdout == "a b\n$c-none"
    with pytest.raises(ValueError, match="NUL"):
        await conn.execute("true", env={"A": "\0"})


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_a_time_limit_with_parts(client: Client) -> None:
    """A command whose time is over has handed out its parts, and the error has all of them."""
    came: list[bytes] = []
    with pytest.raises(CommandTimeout) as caught:
        await client.awaited.execute(
            "echo begun; exec sleep 1000", timeout=1, on_output=lambda _, part: came.append(part)
        )
    assert caught.value.result.output_bytes == b"".join(came) == b"begun\n"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_a_server_that_refuses_terminals(client: Client, tmp_path: Any) -> None:
    """A terminal that the server refuses is an error that names it; the connection goes on."""
    with asyncssh_server(tmp_path, allow_pty=False) as port:
        session = await client.connect("127.0.0.1", port, username="alice", password=PASSWORD)
        conn = Awaited(session.real)
        with pytest.raises(ChannelError, match="the server refused a terminal"):
            await conn.execute("echo x", pty=True)
        assert (await conn.execute("echo on", env={"A": "b"})).stdout == "on\n"


def test_orders_that_tell_too_little_or_too_much() -> None:
    """Bytes of which an order says nothing come last, and bytes that are missing are left out."""
    assert (
        join_in_order(b"abcd", b"123", make_pair(0, 2) + make_pair(1, 1) + make_pair(0, 1))
        == b"ab1cd23"
    )
    assert join_in_order(b"ab", b"1", make_pair(0, 5) + make_pair(1, 9)) == b"ab1"
    assert join_in_order(b"ab", b"1", b"") == b"ab1"
    assert SSHResult(b"ab", b"1").output_bytes == b"ab1"


def test_orders_of_many_runs() -> None:
    """Random runs are put together as they came, and both streams are found again in them."""
    rng = random.Random(1)
    out, err, order, whole = bytearray(), bytearray(), b"", b""
    for _ in range(300):
        stream, part = rng.randrange(2), rng.randbytes(rng.randrange(9))
        (out, err)[stream].extend(part)
        order += make_pair(stream, len(part))
        whole += part
    assert join_in_order(bytes(out), bytes(err), order) == whole
    runs = list(runs_of(out, err, order))
    assert b"".join(part for stream, part in runs if stream) == err
