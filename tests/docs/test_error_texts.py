"""The words of errors that programs for hussh 0.3.3 look for, one test for each, over both APIs.

`test_contract` and ``tests/aio/test_program_for_033.py`` run whole programs; here stands the list.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hussh import AuthenticationError, Connection, PartialFailureException
from hussh.aio import AsyncConnection
from hussh.multi_conn import MultiConnection
from tests.conformance.apis import APIS, Api
from tests.support.sshd import Sshd

#: What its own tests look for where ``fail_fast=True`` ends the transfer of a directory.
OF_DIRECTORIES = re.compile(r"(?i)(failed|error|no such)")
EVERY_API = pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)


def connect(api: Api, server: Sshd, **options: Any) -> BaseException:
    """Return the error of connecting as alice."""

    async def main() -> None:
        session = await api.connect(server.host, server.port, username="alice", **options)
        await session.close()

    with pytest.raises(Exception) as caught:  # noqa: PT011  (each test says which)
        api.run(main)
    return caught.value


def connected(api: Api, server: Sshd, name: str, *arguments: Any, **options: Any) -> Any:
    """Call a method of a connection; returns its error, or its result if there is none."""
    results: list[Any] = []

    async def main() -> None:
        alice = server.alice
        session = await api.connect(
            server.host, server.port, username=alice.name, private_key=alice.key.path
        )
        try:
            result = getattr(session.real, name)(*arguments, **options)
            results.append(result if api.name == "sync" else await result)
        except Exception as error:
            results.append(error)
        await session.close()

    api.run(main)
    return results[0]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a directory with a file, and a file in a directory."""
    (tmp_path / "source" / "inner").mkdir(parents=True)
    (tmp_path / "source" / "file").write_text("x")
    (tmp_path / "source" / "inner" / "file").write_text("x")
    return tmp_path / "source"


def in_the_way(there: Path) -> str:
    (there / "file").mkdir()
    return "words"


def beneath_a_file(there: Path) -> str:
    (there / "file").touch()
    return "words/file/below"


def nowhere(there: Path) -> str:
    return "/proc/nowhere"


def closed(there: Path) -> str:
    there.chmod(0o500)
    return "words"


@EVERY_API
@pytest.mark.parametrize("prepare", [in_the_way, beneath_a_file, nowhere, closed])
def test_fail_fast_of_put_dir(
    api: Api, prepare: Callable[[Path], str], target: Sshd, source: Path
) -> None:
    """Whatever ends an upload of a directory says so in the words that its tests look for."""
    with target.alice.folder("words") as there:
        error = connected(api, target, "sftp_put_dir", source, prepare(there), fail_fast=True)
        there.chmod(0o700)
    assert isinstance(error, OSError)
    assert isinstance(error, RuntimeError)
    assert OF_DIRECTORIES.search(str(error))
    assert str(error).startswith("Failed to ")


@EVERY_API
def test_fail_fast_of_what_is_missing(api: Api, target: Sshd, tmp_path: Path) -> None:
    """The same for a source that is missing, at either end, or no directory."""
    (tmp_path / "file").touch()
    for call in (
        ("sftp_put_dir", tmp_path / "none", "words-none"),
        ("sftp_put_dir", tmp_path / "file", "words-none"),
        ("sftp_get_dir", "/none", tmp_path / "got"),
        ("sftp_get_dir", "/dev/null", tmp_path / "got"),
        ("sftp_get_dir", ".", "/proc/nowhere"),
    ):
        error = connected(api, target, *call, fail_fast=True)
        assert isinstance(error, OSError)
        assert OF_DIRECTORIES.search(str(error))


@EVERY_API
def test_files(api: Api, target: Sshd, tmp_path: Path) -> None:
    """Every failed transfer of a file begins with what failed, and names a missing file."""
    for call in (
        ("sftp_read", "/none/x"),
        ("sftp_write", "/none/x", "x"),
        ("sftp_write_data", "x", "/none/x"),
        ("scp_read", "/none/x"),
        ("scp_write", "/none/x", "x"),
        ("scp_write_data", "x", "/none/x"),
    ):
        error = connected(api, target, *call)
        assert isinstance(error, OSError)
        assert isinstance(error, RuntimeError)
        assert re.match("Failed to (read|write|upload) '/none/x'.*: No such file", str(error))
    for name in ("sftp_read", "scp_read"):
        assert isinstance(connected(api, target, name, "/tmp"), OSError)


@EVERY_API
def test_no_credential_works(api: Api, target: Sshd) -> None:
    """Without any credential the words are those of each API."""
    error = connect(api, target)
    words = "ssh-agent and default SSH keys" if api.name == "sync" else "default SSH keys"
    assert isinstance(error, AuthenticationError)
    assert isinstance(error, RuntimeError)
    assert str(error).startswith(f"Failed to authenticate with {words}")


@pytest.mark.needs_root
@EVERY_API
def test_wrong_password(api: Api, target: Sshd) -> None:
    """A refused password is "Authentication failed"."""
    error = connect(api, target, password="wrong")
    assert isinstance(error, AuthenticationError)
    assert str(error).startswith("Authentication failed")


@EVERY_API
def test_time_outs(api: Api, target: Sshd) -> None:
    """Both kinds of time-outs are TimeoutErrors and say "timed out"."""
    unit = 1000 if api.name == "sync" else 1
    error = connected(api, target, "execute", "sleep 60", timeout=unit // 5 or 0.2)
    assert isinstance(error, TimeoutError)
    assert str(error).startswith("Command timed out")
    timed_out = connect(api, target, proxy_command="sleep 60", timeout=0.2)
    assert isinstance(timed_out, TimeoutError)
    assert str(timed_out).startswith("Connection timed out")


@EVERY_API
def test_proxy_command(api: Api, target: Sshd) -> None:
    """A proxy command that fails tells its exit status and what it wrote to stderr."""
    error = connect(api, target, proxy_command="sh -c 'echo boom >&2; exit 127'")
    assert isinstance(error, RuntimeError)
    words = "Failed to start proxy command (exited with exit status: 127): boom"
    assert str(error).startswith(words)


@pytest.mark.parametrize(
    ("make", "noun"), [(Connection, "a Connection"), (AsyncConnection, "an AsyncConnection")]
)
def test_arguments(make: Callable[..., Any], noun: str) -> None:
    """Arguments that exclude one another, or are of no kind, are TypeErrors in known words."""
    kinds = f"proxy_jump must be {noun}, (host, port) tuple, or string"
    for options, words in (
        ({"proxy_jump": "a", "proxy_command": "b"}, "mutually exclusive"),
        ({"proxy_jump": 7}, kinds),
        ({"proxy_jump": "bastion:x"}, "port must be a valid integer"),
        ({"proxy_jump": ("bastion", "x")}, "port must be a valid integer"),
    ):
        with pytest.raises(TypeError, match=re.escape(words)):
            make("host", **options)
    with pytest.raises(TypeError, match="aliases; provide only one"):
        AsyncConnection("host", key_path="a", private_key="b")


async def _never_connected() -> None:
    await AsyncConnection("host").execute("true")


@pytest.mark.parametrize("api", APIS[1:], ids=lambda api: api.name)
def test_not_connected(api: Api) -> None:
    """An `AsyncConnection` that nobody connected says so."""
    with pytest.raises(RuntimeError, match="Not connected"):
        api.run(_never_connected)


def test_many_hosts(target: Sshd) -> None:
    """In a batch a time-out is a result that says "timed out", and failures can be raised."""
    alice = target.alice
    with MultiConnection.from_shared_auth(
        [target.host], alice.name, key_path=alice.key.path, port=target.port
    ) as many:
        result = many.execute("sleep 60", timeout=0.2)
        assert result[target.host].status == -1
        assert "timed out" in result[target.host].stderr
        with pytest.raises(PartialFailureException, match="failed on 1 of 1 host"):
            result.raise_if_any_failed()
        with many.tail("none") as tail:
            assert tail.read()[target.host].startswith("Error: ")
        assert repr(many) == "MultiConnection(1 hosts, batch_size=100)"
        assert repr(result) == "MultiResult(1 hosts: 0 succeeded, 1 failed)"
