"""A program as users write it, for type checkers; it is never run.

`scripts/check` has mypy and pyright read it, both in their strict modes. ``assert_type`` says what
the public interface promises, and a call that must be refused has a comment for both checkers.
Nothing here imports a private name of hussh.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import hussh
from hussh import (
    AuthenticationError,
    CommandTimeout,
    Connection,
    ConnectionLost,
    ExpectEOF,
    ExpectTimeout,
    FailedPath,
    HostKey,
    Prompt,
    PromptRequest,
    Pty,
    SFTPError,
    SSHResult,
    TransferResult,
)
from hussh.aio import AsyncConnection, AsyncSFTPFile
from hussh.multi_conn import HostResult, MultiConnection, MultiResult, PartialFailureException
from hussh.testing import Bastion, Sshd

if TYPE_CHECKING:
    from typing_extensions import assert_type


def trusted(key: HostKey) -> bool:
    """Decide about a host key."""
    return key.host.endswith(".internal") and key.algorithm == "ssh-ed25519"


def answers(asked: PromptRequest) -> list[str]:
    """Answer the questions of a server."""

    def answer(prompt: Prompt) -> str:
        return "yes" if prompt.echo else os.environ["SECOND_FACTOR"]

    return [answer(prompt) for prompt in asked.prompts]


def connected() -> Connection:
    """Connect through two bastions, with options of several kinds."""
    return Connection(
        "target.internal",
        port=2222,
        username="deploy",
        private_key=Path("~/.ssh/id_ed25519"),
        proxy_jump=["ops@bastion", ("inner", 22)],
        timeout=10_000,
        keepalive_interval=15,
        host_key_policy=trusted,
        prompt=answers,
        known_hosts=[Path("~/.ssh/known_hosts"), "/etc/ssh/ssh_known_hosts"],
        ciphers=("aes256-gcm@openssh.com",),
    )


def commands(connection: Connection) -> str:
    """Run commands in every way."""
    result = connection.execute("uname -r", input="", env={"LANG": "C"}, max_output=1 << 20)
    assert_type(result, SSHResult)
    assert_type(result.stdout, str)
    assert_type(result.stdout_bytes, bytes)
    assert_type(result.status, int)
    with connection.popen("sort", pty=Pty(columns=200)) as process:
        process.stdin.write(b"b\na\n")
        process.stdin.close()
        lines: list[bytes] = process.stdout.readlines()
    with connection.shell(pty=True) as shell:
        shell.send("hostname")
        text = shell.read().stdout
    with connection.tail("/var/log/syslog") as tail:
        assert_type(tail.read(), str)
    return result.stdout + text + lines[0].decode()


def talked(connection: Connection) -> str:
    """Wait for a prompt; say what came instead."""
    with connection.shell(pty=True) as shell:
        try:
            return shell.expect("[#$] ").before
        except (ExpectEOF, ExpectTimeout) as error:
            assert_type(error.result, SSHResult)
            return error.before


def kinds_of_reading(connection: Connection, target: Path) -> str:
    """Fetch a file in memory and to the disk."""
    assert_type(connection.sftp_read("/etc/hostname"), str)
    assert_type(connection.sftp_read("/etc/hostname", encoding="latin-1"), str)
    assert_type(connection.sftp_read("/etc/hostname", encoding=None), bytes)
    assert_type(connection.sftp_read("/etc/hostname", max_output=100), str)
    assert_type(connection.sftp_read("/etc/hostname", target, resume=True), Literal["Ok"])
    assert_type(connection.scp_read("/etc/hostname"), str)
    assert_type(connection.scp_read("/etc/hostname", encoding=None), bytes)
    assert_type(connection.scp_read("/etc/hostname", str(target)), Literal["Ok"])
    return connection.sftp_read("/etc/hostname").strip()


def kinds_of_files(connection: Connection) -> None:
    """Open files by mode."""
    sftp = connection.sftp
    with sftp.open("/etc/hosts") as text:
        assert_type(text.read(), str)
        for line in text:
            assert_type(line, str)
    with sftp.open("/tmp/data", "wb") as binary:
        binary.write(b"data")
    with sftp.open("/tmp/data", "r+b") as both:
        assert_type(both.read(4), bytes)
        both.write("text")  # type: ignore[call-overload]  # pyright: ignore
    assert_type(sftp.listdir(), list[str])
    assert_type(sftp.listdir(b"/tmp"), list[bytes])
    assert_type(sftp.stat("/tmp").st_size, int | None)


def tree(connection: Connection) -> Iterator[str]:
    """Walk over directories, named by text and by bytes."""
    for folder, folders, files in connection.sftp.walk("/srv"):
        assert_type(folder, str)
        folders.sort()
        yield from (f"{folder}/{name}" for name in files)
    for raw, _, names in connection.sftp.walk(b"/srv"):
        assert_type(raw, bytes)
        assert_type(names, list[bytes])


def copied(connection: Connection) -> list[str]:
    """Copy a directory; say what was not copied and why."""
    outcome = connection.sftp_put_dir("site", "/var/www", preserve_times=True)
    assert_type(outcome, TransferResult)
    assert_type(outcome.failed, list[FailedPath])
    transferred, _ = outcome
    assert_type(transferred, list[str])
    return [f"{path}: {path.error}" for path in outcome.failed]


def tunnelled(connection: Connection) -> int:
    """Use a tunnel and a forward."""
    with connection.open_connection("db.internal", 5432) as tunnel:
        tunnel.sendall(b"ping")
        assert_type(tunnel.recv(4), bytes)
    with connection.forward_local(0, ("db.internal", 5432)) as forward:
        return forward.port


def guarded() -> int:
    """Tell failures apart by their classes and attributes."""
    try:
        with connected() as connection:
            return connection.execute("true", timeout=500).status
    except CommandTimeout as error:
        assert_type(error.hop, str | None)
        assert_type(error.phase, str | None)
        assert_type(error.result, SSHResult)
        return -1
    except ConnectionLost as error:
        assert_type(error.result, SSHResult | TransferResult | None)
        return -2
    except AuthenticationError as error:
        return len(error.tried)
    except SFTPError as error:
        assert_type(error.transferred, int | None)
        return error.errno or 0


def refused(connection: Connection) -> None:
    """Mistakes that a type checker must find."""
    connection.execute(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Connection("host", no_such=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Connection("host", compression="9")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def options() -> list[object]:
    """Give every API options, by position and by name; the last six are refused."""
    lists = ["c"]
    return [
        Connection(
            "h", 22, "u", host_key_policy="strict", sftp_requests=None, keepalive_interval=3
        ),
        AsyncConnection(
            "h", "u", "p", None, None, None, None, 22, 15, 30, known_hosts=lists, macs=lists
        ),
        MultiConnection.from_shared_auth(["h"], "u", loops=2, ciphers=lists, private_key="k"),
        Connection("h", sftp_requests="3"),  # type: ignore[arg-type]  # pyright: ignore
        AsyncConnection("h", compression=5),  # type: ignore[arg-type]  # pyright: ignore
        AsyncConnection("h", retries=5),  # type: ignore[call-arg]  # pyright: ignore
        MultiConnection.from_shared_auth(["h"], loops="2"),  # type: ignore[arg-type]  # pyright: ignore
        MultiConnection.from_shared_auth(["h"], agnt=False),  # type: ignore[call-arg]  # pyright: ignore
        MultiConnection([], progres=True),  # type: ignore[call-arg]  # pyright: ignore
    ]


async def awaited() -> bytes:
    """Do the same with tasks."""
    bastion = AsyncConnection("bastion", "ops", timeout=10)
    async with bastion, AsyncConnection("target", proxy_jump=bastion) as target:
        assert_type(await target.execute("hostname"), SSHResult)
        assert_type(await target.sftp_read("/etc/hostname"), str)
        assert_type(await target.sftp_read("/etc/hostname", "copy"), Literal["Ok"])
        assert_type(await target.scp_read("/etc/hostname", encoding=None), bytes)
        async with await target.sftp.open("/etc/hosts") as text:
            assert_type(text, AsyncSFTPFile[str])
            async for line in text:
                assert_type(line, str)
        async with await target.sftp.open("/tmp/data", "wb") as binary:
            await binary.write(b"data")
            await binary.write(7)  # type: ignore[arg-type]  # pyright: ignore
        async for folder, _, files in target.sftp.walk():
            assert_type(folder, str)
            assert_type(files, list[str])
        async with await target.sftp.open("/tmp/data", "rb") as data:
            return await data.read()


def on_many_hosts(hosts: list[str]) -> dict[str, str]:
    """Run a command on many hosts; use what failed."""
    with MultiConnection.from_shared_auth(hosts, "ops", proxy_jump="bastion", timeout=5) as multi:
        results = multi.execute("uptime")
        assert_type(results, MultiResult)
        assert_type(results.failed, MultiResult | None)
        for host, result in multi.stream("hostname"):
            assert_type(host, str)
            assert_type(result, HostResult)
        try:
            results.raise_if_any_failed()
        except PartialFailureException as error:
            assert_type(error.succeeded, MultiResult | None)
            assert_type(error.failed, MultiResult)
            assert_type(error.failed.values()[0].error, hussh.HusshError | None)
        return {host: result.stdout for host, result in results.items()}


def explained(host: str) -> str:
    """Ask why a host cannot be reached."""
    report = hussh.explain(host, timeout=5_000)
    assert_type(report, hussh.Report)
    return report.cause or ", ".join(hop.hop for hop in report.hops)


async def tested(sshd: Sshd, bastion: Bastion) -> str:
    """Use the fixtures of a test."""
    with sshd.connect(timeout=5_000) as connection, Sshd(Path("more"), behind=bastion) as behind:
        assert_type(connection, Connection)
        assert_type(behind, Sshd)
    async with AsyncConnection(**bastion.target.options()) as target:
        result = await target.execute("hostname")
    with Connection(**sshd.options()) as again:
        return result.stdout + again.execute("hostname").stdout
