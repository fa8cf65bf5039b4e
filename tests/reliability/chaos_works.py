"""The works of ``scripts/chaos``: each uses a connection in one way and knows the right answer.

A work makes every call through ``Calls``, which judges errors and times, and judges the answers
itself. All are written once for both APIs (``tests/conformance/awaited.py``).
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread

from hussh import SSHResult
from hussh.multi_conn import MultiConnection
from tests.conformance.apis import Api
from tests.conformance.awaited import Awaited

from .chaos_calls import Calls, Stop

__all__ = ["FULL", "WORKS", "Work"]


@dataclass
class Work:
    """What a work works with.

    Attributes:
        api: the API; ``connection`` is one of its connections, awaited.
        calls: makes and judges calls.
        data: what is sent, different for each work.
        folder: an empty folder of this machine.
        echo: an address that the target reaches and that sends back what it gets.
        again: the options of another connection on the same way, with ``host`` and ``port``.
    """

    api: Api
    connection: Any
    calls: Calls
    data: bytes
    folder: Path
    echo: tuple[str, int]
    again: dict[str, Any]

    @property
    def name(self) -> str:
        """A name that no other file has."""
        return f"chaos-{uuid.uuid4().hex}"

    def expect_output(self, name: str, result: SSHResult, whole: bytes) -> None:
        """Judge a command that repeats its input; one that was killed gives a part, and no 0."""
        got = result.stdout_bytes
        killed = result.status != 0 and whole.startswith(got)
        self.calls.expect(name, killed or (got == whole and result.status == 0), result)


Job = Callable[[Work], Coroutine[Any, Any, None]]


async def execute(work: Work) -> None:
    """Run a command that repeats its input."""
    call = lambda: work.connection.execute("exec cat", input=work.data)  # noqa: E731
    work.expect_output("execute", await work.calls("execute", call), work.data)


async def popen(work: Work) -> None:
    """Do the same with a process that is spoken to."""
    process = await work.calls("popen", lambda: work.connection.popen("exec cat"))
    try:
        talk = lambda: process.communicate(work.data, timeout=work.calls.limit)  # noqa: E731
        result = await work.calls("communicate", talk)
        out = result[0] if isinstance(result, tuple) else result.stdout_bytes
        status = process.returncode if isinstance(result, tuple) else result.status
        killed = status != 0 and work.data.startswith(out)
        work.calls.expect("popen", killed or (out == work.data and status == 0), (out, status))
    finally:
        # It asks a command that still runs to end, for two seconds.
        await work.calls("leave popen", lambda: process.__aexit__(None, None, None), 2.5)


async def shell(work: Work) -> None:
    """Wait in a shell for what it shall print."""
    shell = await work.calls("shell", lambda: work.connection.shell())
    entered = await shell.__aenter__()
    try:
        await work.calls("send", lambda: entered.send("echo $((6*7))x"))
        expect = lambda: entered.expect("42x", timeout=work.calls.limit)  # noqa: E731
        match = await work.calls("expect", expect)
        work.calls.expect("shell", match is not None, match)
    finally:
        # Reads what is left, for as long as the connection's limit.
        leave = lambda: entered.__aexit__(None, None, None)  # noqa: E731
        await work.calls("leave shell", leave)


async def sftp(work: Work) -> None:
    """Store a file, and read it."""
    name = work.name
    await work.calls("sftp_write_data", lambda: work.connection.sftp_write_data(work.data, name))
    got = await work.calls("sftp_read", lambda: work.connection.sftp_read(name, encoding=None))
    work.calls.expect("sftp", got == work.data, len(got))
    await work.calls("remove", lambda: work.connection.sftp.remove(name))


async def tree(work: Work) -> None:
    """Store a folder, and read it."""
    here, there, back = work.folder / work.name, work.name, work.folder / work.name
    (here / "below").mkdir(parents=True)
    for number in range(6):
        (here / "below" / f"{number}").write_bytes(work.data[: number * 2000])
    put = lambda: work.connection.sftp_put_dir(here, there)  # noqa: E731
    _, failed = await work.calls("sftp_put_dir", put)
    get = lambda: work.connection.sftp_get_dir(there, back)  # noqa: E731
    done, missed = await work.calls("sftp_get_dir", get)
    if failed or missed:
        reasons = [getattr(entry, "error", None) for entry in [*failed, *missed]]
        work.calls.expect("tree", all(reasons), reasons)
        return
    same = all(
        (back / "below" / f"{number}").read_bytes() == work.data[: number * 2000]
        for number in range(6)
    )
    work.calls.expect("tree", same and len(done) == 6, done)


async def scp(work: Work) -> None:
    """Store a file by scp, and read it."""
    name = work.name
    await work.calls("scp_write_data", lambda: work.connection.scp_write_data(work.data, name))
    got = await work.calls("scp_read", lambda: work.connection.scp_read(name, encoding=None))
    work.calls.expect("scp", got == work.data, len(got))


async def stream(work: Work) -> None:
    """Send bytes to an echo server behind the target, and read them."""
    opened = await work.calls(
        "open_connection", lambda: work.connection.open_connection(*work.echo)
    )
    tunnel, part = opened.real, work.data[:20_000]

    async def there_and_back() -> bytes:
        if hasattr(tunnel, "recv"):
            tunnel.settimeout(work.calls.limit)
            tunnel.sendall(part)
            tunnel.shutdown(socket.SHUT_WR)
            got = b""
            while len(got) < len(part) and (more := tunnel.recv(1 << 16)):
                got += more
            return got
        got = b""
        with anyio.move_on_after(work.calls.limit):
            await tunnel.send(part)
            await tunnel.send_eof()
            while len(got) < len(part):
                try:
                    got += await tunnel.receive()
                except anyio.EndOfStream:
                    break
            return got
        raise Stop

    try:
        # Each recv has the limit, and the bytes may come one by one.
        got = await there_and_back()
        work.calls.expect("stream", part.startswith(got), len(got))
    except (TimeoutError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
        work.calls.count(type(error).__name__)
    finally:
        close: Any = tunnel.close if work.api.name == "sync" else tunnel.aclose
        await work.calls("close a stream", lambda: _awaited(close), 0.0)


async def forward(work: Work) -> None:
    """Send bytes through a local port, by a program that knows nothing of hussh."""
    made: Any = await work.calls("forward_local", lambda: _entered(work.connection, work.echo))
    try:
        part = work.data[:20_000]

        def talk() -> bytes:
            return _exchange(made.address, part, work.calls.limit)

        with contextlib.suppress(OSError):  # the program's own: reset, time-out
            got = talk() if work.api.name == "sync" else await anyio.to_thread.run_sync(talk)
            work.calls.expect("forward", part.startswith(got), len(got))
    finally:
        await work.calls("close a forward", lambda: made.__aexit__(None, None, None), 0.0)


async def multi(work: Work) -> None:
    """Run a command on the same host three times, by connections of its own."""
    options = dict(work.again)
    hosts = [options.pop("host")] * 3
    group = MultiConnection.from_shared_auth(hosts, **options, timeout=work.calls.limit)
    opened: Any = group if work.api.name == "sync" else None
    part = work.data[:1000]

    async def connect() -> Any:
        nonlocal opened
        if work.api.name == "sync":
            group.connect()
            return group
        opened = await group
        return opened

    async def run(connected: Any) -> Any:
        answer = connected.execute("exec cat", input=part)
        return answer if work.api.name == "sync" else await answer

    try:
        connected = await work.calls("connect many", connect)
        results = await work.calls("execute on many", lambda: run(connected))
        for result in results.values():
            if result.status == -1:
                work.calls.expect("multi", bool(result.stderr or result.signal), result)
            else:
                work.expect_output("multi", result, part)
    finally:
        if opened is not None:
            await work.calls("close many", lambda: _awaited(opened.close), 0.0)


async def login(work: Work) -> None:
    """Make one more connection to the target, and use it."""
    options = {**work.again, "timeout": work.calls.limit}
    session = await work.calls("login", lambda: work.api.connect(**options))
    try:
        run = lambda: session.execute("exec cat", input=work.data[:100])  # noqa: E731
        work.expect_output("login", await work.calls("execute", run), work.data[:100])
    finally:
        await work.calls("close", session.close, 0.0)


WORKS: dict[str, Job] = {
    "execute": execute, "popen": popen, "shell": shell, "sftp": sftp, "tree": tree, "scp": scp,
    "stream": stream, "forward": forward, "multi": multi, "login": login,
}  # fmt: skip


# -- full disks ------------------------------------------------------------------------------------


async def full(work: Work) -> None:
    """Write to disks that are full, here and there: no answer may be that it is done."""
    data = random.Random(0).randbytes(100_000)
    name = work.name
    await work.calls("sftp_write_data", lambda: work.connection.sftp_write_data(data, name))
    here = Path(os.environ.get("HUSSH_FULL_DISK", "/nowhere"))
    wants: dict[str, Callable[[], Any]] = {
        "sftp_write_data": lambda: work.connection.sftp_write_data(data, "/dev/full"),
        "scp_write_data": lambda: work.connection.scp_write_data(data, "/dev/full"),
        "sftp_read": lambda: work.connection.sftp_read(name, "/dev/full"),
        "scp_read": lambda: work.connection.scp_read(name, "/dev/full"),
        "sftp_read to a full disk": lambda: work.connection.sftp_read(name, here / "file"),
        "sftp_get_dir to a full disk": lambda: work.connection.sftp_get_dir(".", here / "all"),
    }
    for what, make in wants.items():
        if "full disk" in what and not os.path.ismount(here):
            continue
        with contextlib.suppress(Stop):
            got = await work.calls(what, make)
            is_told = isinstance(got, tuple) and bool(got[1])  # what failed, of a folder
            work.calls.expect(what, is_told, got)
    command = lambda: work.connection.execute("cat > /dev/full", input=data)  # noqa: E731
    result = await work.calls("execute", command)
    work.calls.expect("execute", result.status != 0, result)
    read = lambda: work.connection.sftp_read(name, encoding=None)  # noqa: E731
    work.calls.expect("sftp_read", await work.calls("sftp_read", read) == data, "another file")


FULL: Job = full


# -- helpers ---------------------------------------------------------------------------------------


async def _awaited(call: Callable[[], Any]) -> None:
    answer = call()
    if hasattr(answer, "__await__"):
        await answer


async def _entered(connection: Awaited, to: tuple[str, int]) -> Any:
    forward: Any = connection.forward_local(0, to)
    entered: Any = await forward.__aenter__()
    return entered


def _exchange(address: Any, data: bytes, limit: float) -> bytes:
    with socket.create_connection(address, limit) as sock:
        sock.settimeout(limit)
        sock.sendall(data)
        got = b""
        while len(got) < len(data) and (part := sock.recv(1 << 16)):
            got += part
        return got
