"""A program for the async API of hussh 0.3.3: import paths, positions, error classes, words.

Written as its users write, from its signatures and its behaviour, which were looked at beside it.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

import hussh
from hussh import AuthenticationError, SSHResult
from hussh.aio import AsyncConnection, AsyncFileTailer, AsyncInteractiveShell
from tests.aio.conftest import Make
from tests.support.sshd import Sshd

TREE = ", follow_symlinks=True, preserve_permissions=True, fail_fast=False"
ASYNC = (
    "host, username=None, password=None, key_path=None, private_key=None, proxy_jump=None, "
    "proxy_command=None, port=22, keepalive_interval=0, timeout=0"
)
SYNC = (
    "host, port=22, username='root', password=None, private_key=None, proxy_jump=None, "
    "proxy_command=None, timeout=0"
)
#: Parameters in the order of 0.3.3; it gave defaults as far as they are told.
SIGNATURES: list[tuple[Any, str]] = [
    (AsyncConnection, ASYNC),
    (AsyncConnection.connect, "self, timeout=None"),
    (AsyncConnection.close, "self"),
    (AsyncConnection.execute, "self, command, timeout=None"),
    (AsyncConnection.sftp_get_dir, "self, remote_path, local_path" + TREE),
    (AsyncConnection.sftp_put_dir, "self, local_path, remote_path" + TREE),
    (AsyncConnection.sftp_list, "self, path"),
    (AsyncConnection.sftp_read, "self, remote_path, local_path=None"),
    (AsyncConnection.sftp_write, "self, local_path, remote_path=None"),
    (AsyncConnection.sftp_write_data, "self, data, remote_path"),
    (AsyncConnection.shell, "self, pty"),
    (AsyncConnection.tail, "self, remote_file"),
    (AsyncFileTailer.read, "self, from_pos=None"),
    (AsyncFileTailer.seek_end, "self"),
    (AsyncInteractiveShell.send, "self, data, add_newline"),
    (AsyncInteractiveShell.read, "self"),
    (AsyncInteractiveShell.close, "self"),
    (hussh.Connection, SYNC),
    (hussh.Connection.execute, "self, command, timeout=None"),
    (hussh.Connection.scp_read, "self, remote_path, local_path=None"),
    (hussh.Connection.scp_write, "self, local_path, remote_path"),
    (hussh.Connection.scp_write_data, "self, data, remote_path"),
    (hussh.Connection.sftp_read, "self, remote_path, local_path=None"),
    (hussh.Connection.sftp_write, "self, local_path, remote_path=None"),
    (hussh.Connection.sftp_write_data, "self, data, remote_path"),
    (hussh.Connection.sftp_put_dir, "self, local_path, remote_path" + TREE),
    (hussh.Connection.sftp_get_dir, "self, remote_path, local_path" + TREE),
    (hussh.Connection.remote_copy, "self, source_path, dest_conn, dest_path=None"),
    (hussh.Connection.shell, "self, pty=None"),
    (hussh.Connection.tail, "self, remote_file"),
    (hussh.FileTailer, "conn, remote_file, init_pos=None"),
    (hussh.FileTailer.read, "self, from_pos=None"),
    (hussh.InteractiveShell.send, "self, data, add_newline"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("member", "wanted"), [pytest.param(*pair, id=pair[0].__qualname__) for pair in SIGNATURES]
)
def test_signatures(member: Any, wanted: str) -> None:
    """Names, order and defaults of what can be given by position are those of 0.3.3."""
    ours = [
        p
        for p in inspect.signature(member).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    theirs = [part.partition("=")[::2] for part in wanted.split(", ")]
    assert [p.name for p in ours] == [name for name, _ in theirs]
    for parameter, (_, default) in zip(ours, theirs, strict=True):
        if default:
            assert repr(parameter.default) == default


def test_names() -> None:
    """All names of 0.3.3's modules are there; `import hussh` alone gives `hussh.aio`."""
    for name in ("AuthenticationError", "Connection", "FileTailer", "InteractiveShell",
                 "SSHResult", "aio"):  # fmt: skip
        assert getattr(hussh, name)
        assert name in hussh.__all__
    assert hussh.aio is importlib.import_module("hussh.aio")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hussh.nothing


async def test_a_program(loop: str, target: Sshd, tmp_path: Path) -> None:
    """Every method of 0.3.3's async API, called as its users call it, answers as it did."""
    alice = target.alice
    (tmp_path / "here" / "inner").mkdir(parents=True)
    (tmp_path / "here" / "inner" / "file").write_text("in a folder\n")
    (tmp_path / "file").write_text("a file\n")
    conn = AsyncConnection(alice.name and target.host, alice.name, None, alice.key.path,
                           port=target.port)  # fmt: skip
    with pytest.raises(RuntimeError, match="Not connected"):
        await conn.execute("true")
    await conn.connect(30)
    await conn.connect()
    result = await conn.execute("echo out; echo err >&2; exit 3")
    assert isinstance(result, SSHResult)
    assert (result.stdout, result.stderr, result.status) == ("out\n", "err\n", 3)
    with pytest.raises(TimeoutError, match="Command timed out"):
        await conn.execute("sleep 60", 1)
    assert str(await conn.execute("echo on", timeout=30)) == "stdout:\non\n\nstderr:\n\nstatus: 0"

    await conn.sftp_write_data("grüße\n", "of033")
    assert await conn.sftp_read("of033") == "grüße\n"
    assert await conn.sftp_read("of033", str(tmp_path / "copy")) == "Ok"
    await conn.sftp_write(str(tmp_path / "file"), "of033-file")
    assert {"of033", "of033-file"} <= set(await conn.sftp_list("."))
    for call in (conn.sftp_read("none"), conn.sftp_list("./none"), conn.sftp_write("/none/none")):
        with pytest.raises(RuntimeError, match="No such file"):
            await call
    put = await conn.sftp_put_dir(str(tmp_path / "here"), "of033-dir", True, True, False)
    assert put == ([str(tmp_path / "here/inner/file")], [])
    got = await conn.sftp_get_dir("of033-dir", str(tmp_path / "there"), fail_fast=True)
    assert got == (["of033-dir/inner/file"], [])
    assert await conn.sftp_get_dir("none", str(tmp_path / "not")) == ([], ["none"])
    assert await conn.sftp_put_dir("/none", "of033-not") == ([], ["/none"])

    async with await conn.shell(pty=True) as sh:
        await sh.send("echo o''ne")
        output = ""
        while "one" not in output:
            output += (await sh.read()).stdout
        await sh.send("echo tw", False)
        await sh.send("''o", None)
        while "two" not in output:
            output += (await sh.read()).stdout
    shell = await conn.shell(None)
    await shell.close()

    async with conn.tail("of033") as tail:
        assert (tail.remote_file, tail.contents) == ("of033", None)
        await conn.execute("echo more >> of033")
        assert await tail.read() == "more\n"
        assert await tail.read(0) == "grüße\nmore\n"
        assert await tail.read(from_pos=8) == "more\n"
        await conn.execute("echo less >> of033")
        assert await tail.seek_end() == 18
    assert tail.contents == "more\nless\n"
    with pytest.raises(RuntimeError):
        await conn.tail("none").__aenter__()

    await conn.execute("rm -r of033*")
    await conn.close()
    await conn.close()
    with pytest.raises(RuntimeError):
        await conn.execute("true")
    await conn.connect()
    assert (await conn.execute("echo again")).stdout == "again\n"
    await conn.close()


async def test_ways(loop: str, bastion: Sshd, target: Sshd) -> None:
    """Proxies in all the forms of 0.3.3: a connection, a string, a tuple, a command."""
    user, key = target.alice.name, target.alice.key.path
    jump = AsyncConnection(bastion.host, username=user, key_path=key, port=bastion.port)
    ways: list[dict[str, Any]] = [
        {"proxy_jump": jump},
        {"proxy_jump": f"{user}@{bastion.host}:{bastion.port}"},
        {"proxy_jump": (bastion.host, bastion.port)},
        {"proxy_command": "nc %h %p"},
    ]
    for way in ways:
        async with AsyncConnection(
            target.host, username=user, private_key=key, port=target.port, timeout=60, **way
        ) as conn:
            assert (await conn.execute("echo here")).stdout == "here\n"


async def test_refusals(loop: str, target: Sshd, make: Make, monkeypatch: Any) -> None:
    """What is refused is refused with 0.3.3's classes and words."""
    for options, words in (
        ({"key_path": "a", "private_key": "b"}, "aliases; provide only one"),
        ({"proxy_jump": "a", "proxy_command": "b"}, "mutually exclusive"),
        ({"proxy_jump": 7}, "proxy_jump must be an AsyncConnection, (host, port) tuple, or string"),
        ({"proxy_jump": "bastion:x"}, "port must be a valid integer"),
    ):
        with pytest.raises(TypeError) as refused:
            AsyncConnection("host", **options)
        assert words in str(refused.value)
    with pytest.raises(RuntimeError, match="Authentication failed") as denied:
        await make(target, password="wrong").connect()
    assert isinstance(denied.value, AuthenticationError)
    with pytest.raises(RuntimeError, match="Failed to authenticate with default SSH keys"):
        await make(target, private_key=None).connect()
    with pytest.raises(RuntimeError):
        await make(target, key_path="/none").connect()
    with pytest.raises(RuntimeError, match="refused"):
        await AsyncConnection("127.0.0.1", "u", "p", port=1).connect()
    with pytest.raises(RuntimeError, match=r"Failed to start proxy command .*: boom"):
        await make(target, proxy_command="sh -c 'echo boom >&2; exit 7'").connect(30)


def test_no_port() -> None:
    """A port of None is 22, as in 0.3.3's sync API."""
    assert AsyncConnection("host", port=None).port == 22
    with pytest.raises(hussh.ProxyCommandError) as failed:
        hussh.Connection("host", None, "user", proxy_command="false")
    assert failed.value.hop == "user@host:22"
    with pytest.raises(TypeError, match="port must be a valid integer"):
        AsyncConnection("host", proxy_jump=("bastion", None))


def test_a_tailer_made_by_hand(target: Sshd) -> None:
    """`FileTailer` can be made by its users, at a position from which `contents` begins."""
    log = target.alice.files / "by-hand"
    log.write_text("grüße\n")
    log.chmod(0o644)
    with hussh.Connection(
        target.host, target.port, target.alice.name, None, target.alice.key.path, timeout=30_000
    ) as conn:
        tailer = hussh.FileTailer(conn, "by-hand")
        assert (tailer.last_pos, tailer.contents) == (0, None)
        assert tailer.read() == "grüße\n"
        tailer.close()
        with hussh.FileTailer(conn, "by-hand", 2) as tail:
            assert tail.last_pos == 8
            assert tail.read() == ""
        assert tail.contents == "üße\n"
        conn.__exit__()
    log.unlink()
