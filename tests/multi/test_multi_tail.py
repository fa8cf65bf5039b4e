"""Following a file of many hosts, in both twins."""

from __future__ import annotations

from typing import Any

import pytest

from hussh.multi_conn import AsyncMultiFileTailer, MultiFileTailer
from tests.multi.conftest import HOSTS, Multi
from tests.support.sshd import Sshd

# All hosts are one server: each has a file of its own.
FILES = {host: f"log-{host}" for host in HOSTS[:3]}


def everywhere(text: str) -> dict[str, str]:
    """Return commands that add a line to each host's file."""
    return {host: f"echo {text} {host} >> {path}" for host, path in FILES.items()}


def lines(*texts: str) -> dict[str, str]:
    """Return what then has been added, by host."""
    return {host: "".join(f"{text} {host}\n" for text in texts) for host in FILES}


def test_reading_what_is_added(multi: Multi) -> None:
    """Each read has what came since the last one; the block's end has all of it."""
    with multi() as connected:
        connected.execute_map({host: f"echo old > {path}" for host, path in FILES.items()})
        with connected.tail_map(FILES) as tailer:
            assert isinstance(tailer, MultiFileTailer)
            assert (tailer.hosts, tailer.contents) == (HOSTS[:3], {})
            connected.execute_map(everywhere("one"))
            assert tailer.read() == lines("one")
            connected.execute_map(everywhere("two"))
            assert tailer.read() == lines("two")
            assert tailer.read() == dict.fromkeys(FILES, "")
            assert tailer.read(from_pos=0)[HOSTS[0]] == "old\n" + lines("one", "two")[HOSTS[0]]
        assert tailer.contents == lines("one", "two")
        assert tailer.errors == {}


async def test_for_tasks(loop: str, multi: Multi) -> None:
    """The async twin's tailer does the same, awaited."""
    async with multi() as connected:
        await connected.execute_map({host: f"echo old > {path}" for host, path in FILES.items()})
        async with connected.tail_map(FILES) as tailer:
            assert isinstance(tailer, AsyncMultiFileTailer)
            await connected.execute_map(everywhere("one"))
            assert await tailer.read() == lines("one")
        assert tailer.contents == lines("one")


def test_one_path_and_a_host_that_fails(multi: Multi) -> None:
    """A host without the file has its error as text and in `errors`; the others have theirs."""
    with multi([*HOSTS[:2], {"host": HOSTS[2], "port": 1}]) as connected:
        connected.execute("echo old > shared-log")
        with connected.tail("shared-log") as tailer:
            connected.execute_map({HOSTS[0]: "echo new >> shared-log"})
            read = tailer.read()
        assert [read[host] for host in HOSTS[:2]] == ["new\n", "new\n"]  # it is the same file
        assert read[HOSTS[2]].startswith("Error: ")
        assert tailer.contents[HOSTS[2]].startswith("Error: ")
        assert tailer.errors.keys() == {HOSTS[2]}
        with connected.tail("no-such-log") as tailer:
            assert tailer.errors.keys() == set(HOSTS[:3])


def test_the_same_host_twice(multi: Multi) -> None:
    """Texts of several connections to one host are joined in order, so none is lost."""
    with multi([HOSTS[0], HOSTS[0]]) as connected:
        connected.execute_map({HOSTS[0]: "echo old > twice-log"})
        with connected.tail("twice-log") as tailer:
            connected.sftp_write_data("old\nnew\n", "twice-log")
            read = tailer.read()
    assert tailer.hosts == [HOSTS[0], HOSTS[0]]
    assert read == {HOSTS[0]: "new\nnew\n"}


def test_reading_before_the_block(multi: Multi) -> None:
    """It is an error of each host, as in 0.3.3."""
    with multi(1) as connected:
        tailer: Any = connected.tail("log")
        assert tailer.read()[HOSTS[0]].startswith("Error: ")
    assert repr(tailer) == "MultiFileTailer(1 hosts)"


def test_a_lost_bastion_is_named(multi: Multi, bastion: Sshd) -> None:
    """The text of a host that its bastion took along says so."""
    with multi(1, proxy_jump=f"{bastion.host}:{bastion.port}") as connected:
        connected.sftp_write_data("old", "log-behind")
        with connected.tail("log-behind") as tailer:
            bastion.kill_sessions()
            read = tailer.read()
    for text in (read[HOSTS[0]], tailer.contents[HOSTS[0]]):
        assert text.startswith("Error: ")
        assert f"@{bastion.host}:{bastion.port}, " in text


@pytest.mark.parametrize(
    ("position", "error"), [(-1, ValueError), (1 << 63, ValueError), ("1", TypeError)]
)
def test_no_position(multi: Multi, position: Any, error: type[Exception]) -> None:
    """What is no offset in a file is an error of the caller, not of each host."""
    with multi(1) as connected:
        connected.sftp_write_data("old", "log-positions")
        with connected.tail("log-positions") as tailer:
            with pytest.raises(error, match="a position in a file"):
                tailer.read(position)
            assert tailer.read(0) == {HOSTS[0]: "old"}


@pytest.mark.parametrize("files", ["log", 5, None])
def test_no_mapping(multi: Multi, files: Any) -> None:
    """`tail_map` wants files by host, and `tail` one path; each says so at once."""
    with pytest.raises(TypeError, match="a mapping by host is needed"):
        multi(1).tail_map(files)
    wrong: Any = {HOSTS[0]: "log"}
    with pytest.raises(TypeError, match="PathLike object, not dict"):
        multi(1).tail(wrong)
