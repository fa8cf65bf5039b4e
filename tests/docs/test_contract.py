"""A program for hussh 0.3.3's sync API runs unchanged: names, order, defaults, results, errors."""

from __future__ import annotations

import inspect
import os
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from hussh import AuthenticationError, Connection, SSHResult
from tests.support.processes import children_of
from tests.support.sshd import Sshd

#: Member -> what may be given by position, with defaults; "…" for none.
SIGNATURES = {
    "execute": "command timeout=None",
    "sftp_read": "remote_path local_path=None",
    "sftp_write": "local_path remote_path=None",
    "sftp_write_data": "data remote_path",
    "sftp_put_dir": "local_path remote_path follow_symlinks=True preserve_permissions=True "
    "fail_fast=False",
    "sftp_get_dir": "remote_path local_path follow_symlinks=True preserve_permissions=True "
    "fail_fast=False",
    "scp_read": "remote_path local_path=None",
    "scp_write": "local_path remote_path",
    "scp_write_data": "data remote_path",
    "remote_copy": "source_path dest_conn dest_path=None",
    "tail": "remote_file",
    "shell": "pty=None",
    "close": "",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name: str) -> None:
    """Parameters keep their names, order and defaults; ours are keyword-only after them."""
    found = [
        p for p in inspect.signature(getattr(Connection, name)).parameters.values()
        if p.name != "self"
    ]  # fmt: skip
    by_position = [p for p in found if p.kind is p.POSITIONAL_OR_KEYWORD]
    words = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in by_position]
    assert " ".join(words) == SIGNATURES[name]
    assert {p.kind for p in found[len(by_position) :]} <= {inspect.Parameter.KEYWORD_ONLY}


def test_constructor() -> None:
    """The constructor, too."""
    found = list(inspect.signature(Connection).parameters.values())
    assert [(p.name, p.default) for p in found if p.kind is p.POSITIONAL_OR_KEYWORD] == [
        ("host", inspect.Parameter.empty),
        ("port", 22),
        ("username", "root"),
        ("password", None),
        ("private_key", None),
        ("proxy_jump", None),
        ("proxy_command", None),
        ("timeout", 0),
    ]


@pytest.mark.parametrize("way", ["direct", "jump"])
def test_program(target: Sshd, bastion: Sshd, tmp_path: Path, way: str) -> None:
    """What its documentation shows works, by keyword and by position."""
    alice = target.alice
    jump = None
    if way == "jump":
        jump = Connection(
            host=bastion.host,
            port=bastion.port,
            username=bastion.alice.name,
            password=bastion.alice.password,
        )
    conn = Connection(
        host=target.host, port=target.port, username=alice.name, password=alice.password,
        proxy_jump=jump, timeout=30_000,
    )  # fmt: skip
    result = conn.execute("whoami")
    assert (result.stdout, result.stderr, result.status) == ("alice\n", "", 0)
    assert repr(result) == "SSHResult(stdout=alice\n, stderr=, status=0)"
    assert conn.execute(command="sleep 0; echo hi", timeout=5000).stdout == "hi\n"
    with pytest.raises(TimeoutError):
        conn.execute("sleep 20", timeout=100)
    with conn.shell() as shell:
        shell.send("cd /")
        shell.send("pwd")
    assert isinstance(shell.result, SSHResult)
    assert shell.result.stdout == "/\n"
    local = tmp_path / "local.txt"
    local.write_text("some text\n")
    conn.sftp_write(local_path=str(local), remote_path="remote.txt")
    conn.sftp_write_data(data="more text\n", remote_path="data.txt")
    assert conn.sftp_read(remote_path="remote.txt") == "some text\n"
    assert conn.sftp_read(remote_path="data.txt", local_path=str(tmp_path / "back")) == "Ok"
    assert (tmp_path / "back").read_text() == "more text\n"
    conn.scp_write(local_path=str(local), remote_path=alice.path("scp.txt"))
    conn.scp_write_data(data="scp text\n", remote_path=alice.path("scp2.txt"))
    assert conn.scp_read(remote_path=alice.path("scp.txt")) == "some text\n"
    assert conn.scp_read(alice.path("scp2.txt"), str(tmp_path / "back")) == "Ok"
    for call in (conn.sftp_read, conn.scp_read):
        with pytest.raises(OSError, match="nowhere"):
            call(alice.path("nowhere"))
    with conn.tail("data.txt") as tail:
        conn.execute("echo one >>data.txt; echo two >>data.txt")
        assert tail.read() == "one\ntwo\n"
        assert tail.read(from_pos=0) == "more text\none\ntwo\n"
        assert tail.last_pos == len("more text\none\ntwo\n")
        assert tail.remote_file == "data.txt"
    with Connection(bastion.host, bastion.port, "alice", bastion.alice.password) as other:
        conn.remote_copy(source_path="remote.txt", dest_conn=other, dest_path="copied.txt")
        assert other.sftp_read("copied.txt") == "some text\n"
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("x")
    assert conn.sftp_put_dir(str(folder), "put/folder", fail_fast=True) == (
        [str(folder / "file")],
        [],
    )
    assert conn.sftp_get_dir("put/folder", str(tmp_path / "got")) == (["put/folder/file"], [])
    assert (conn.host, conn.port, conn.username) == (target.host, target.port, "alice")
    assert (conn.password, conn.private_key, conn.timeout) == (alice.password, "", 30_000)
    assert conn.proxy_command is None
    for name in ("host", "port", "username", "password", "private_key", "timeout"):
        with pytest.raises(AttributeError):
            setattr(conn, name, "x")
    with pytest.raises(AuthenticationError):
        Connection(target.host, target.port, "alice", "wrong")
    conn.close()
    conn.close()
    if jump is not None:
        jump.close()


def test_a_jump_needs_nothing_else(target: Sshd, bastion: Sshd) -> None:
    """A jump adds no program, no listening port, no thread, and no second login."""

    def listening() -> set[str]:
        own = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if
                os.path.lexists(f"/proc/self/fd/{fd}")}  # fmt: skip
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own}

    def threads() -> list[threading.Thread]:
        # A worker that rests ends by itself.
        return [each for each in threading.enumerate() if not getattr(each, "is_idle", False)]

    def options(server: Sshd) -> dict[str, object]:
        alice = server.alice
        return {"port": server.port, "username": alice.name, "private_key": alice.key.path}

    with socket.create_server(("127.0.0.1", 0)):
        assert len(listening()) == 1  # it would be noticed
    with (
        Connection(bastion.host, **options(bastion)) as way,  # type: ignore[arg-type]
        ExitStack() as targets,
    ):
        before = listening(), threads(), [child.pid for child in children_of(os.getpid())]
        one, two = (
            targets.enter_context(
                Connection(target.host, **options(target), proxy_jump=way)  # type: ignore[arg-type]
            )
            for _ in range(2)
        )
        assert one.execute("echo 1").stdout + two.execute("echo 2").stdout == "1\n2\n"
        now = listening(), threads(), [child.pid for child in children_of(os.getpid())]
        assert now == before
    assert bastion.connections() == 1
