"""How a command's end is told: status, signal, neither, and who is waited for."""

from __future__ import annotations

import os
import re

import anyio.to_thread
import pytest

from hussh.errors import CommandTimeout
from tests.conformance.client import Client
from tests.conformance.conftest import FOUR
from tests.support.hostile import Channel, HandlerSteps, HostileServer, polite
from tests.support.processes import wait_gone

LONG = os.environ.get("HUSSH_LONG") == "1"


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_every_status(client: Client) -> None:
    """Each exit status from 0 to 255 (every third, if it shall be quick) is reported."""
    for status in range(256) if LONG else [1, 2, 127, 128, 255, *range(0, 256, 3)]:
        result = await client.execute(f"exit {status}")
        assert (result.status, result.signal) == (status, None)


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_end_by_a_signal(client: Client) -> None:
    """A command that a signal ended has that signal's name and no status that looks fine."""
    for name in ("TERM", "KILL", "INT", "HUP", "SEGV", "USR1", "ABRT"):
        result = await client.execute(f"ulimit -c 0; echo out; kill -{name} $$")
        assert (result.status, result.signal, result.stdout) == (-1, name, "out\n")


async def test_a_shell_reports_the_signal_of_its_child(client: Client) -> None:
    """A signal that ended only the shell's child is a plain status, as the shell says."""
    result = await client.execute("sh -c 'kill -TERM $$'; exit $?")
    assert (result.status, result.signal) == (143, None)


async def test_unknown_command(client: Client) -> None:
    """A command that does not exist is the shell's status 127, with its words on stderr."""
    result = await client.execute("no-such-command-anywhere")
    assert result.status == 127
    assert "not found" in result.stderr


async def test_a_command_that_may_not_be_executed(client: Client) -> None:
    """A file that is no program is the shell's status 126."""
    assert (await client.execute("/etc/passwd")).status == 126


async def test_empty_command(client: Client) -> None:
    """An empty command ends with status 0 and says nothing."""
    result = await client.execute("", timeout=60)
    assert (result.stdout, result.status) == ("", 0)


async def test_output_before_the_end_is_kept(client: Client) -> None:
    """What a command wrote right before a fatal signal is not lost."""
    result = await client.execute("head -c 300000 /dev/zero; kill -KILL $$")
    assert (len(result.stdout_bytes), result.signal) == (300_000, "KILL")


async def test_wait_for_exit_only(client: Client) -> None:
    """With wait="exit" a process left behind, holding the streams open, is not waited for."""
    result = await client.execute("sleep 60 & echo hi", wait="exit", timeout=30)
    assert (result.stdout, result.status) == ("hi\n", 0)


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_wait_for_exit_loses_no_output(client: Client) -> None:
    """With wait="exit" everything that the command itself wrote is there, status first or not."""
    command = "sleep 60 & head -c 60000 /dev/zero >&2; head -c 200000 /dev/zero"
    for _ in range(100 if LONG else 8):
        result = await client.execute(command, wait="exit", timeout=30)
        assert (len(result.stdout_bytes), len(result.stderr_bytes)) == (200_000, 60_000)


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_wait_for_exit_beside_a_chatterbox(client: Client) -> None:
    """With wait="exit" a process left behind that never stops writing does not hold us."""
    result = await client.execute("yes & exit 4", wait="exit", timeout=60)
    assert result.status == 4


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_wait_for_the_end_of_output(client: Client) -> None:
    """By default output of processes left behind is waited for and included."""
    result = await client.execute("(sleep 0.2; echo late) & echo early")
    assert (result.stdout, result.status) == ("early\nlate\n", 0)


def _silent_end(channel: Channel, command: str) -> HandlerSteps:
    channel.send_data(b"some output\n")
    if command == "eof":
        channel.send_eof()
    channel.send_close()
    return None


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_no_status_is_never_success(client: Client) -> None:
    """A server that closes the channel without a status does not make the command a success."""
    with HostileServer(polite(execute=_silent_end)) as server:
        session = await client.connect(*server.address, username="u", password="p")
        for how in ("close", "eof"):
            for result in (await session.execute(how), await session.execute(how, wait="exit")):
                assert (result.status, result.signal) == (-1, None)
                assert result.stdout == "some output\n"
        await session.close()


def _silent_eof(channel: Channel, command: str) -> HandlerSteps:
    channel.exit_status(0)
    channel.send_eof()
    return None


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_eof_and_status_without_close(client: Client) -> None:
    """A status and end of output are no end of the command before the channel is closed."""
    with HostileServer(polite(execute=_silent_eof)) as server:
        session = await client.connect(*server.address, username="u", password="p")
        with pytest.raises(CommandTimeout):
            await session.execute("x", timeout=0.3)
        await session.close()


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_odd_signal_names(client: Client) -> None:
    """Whatever a server calls a signal, the command did not succeed and nothing breaks."""
    names = {"good": b"TERM", "bad": b"\xff\xfe", "empty": b"", "long": b"x" * 5000}

    def killed(channel: Channel, command: str) -> HandlerSteps:
        text = names[command]
        channel.send_request("exit-signal", len(text).to_bytes(4, "big") + text, b"\0" * 9)
        channel.send_eof()
        channel.send_close()
        return None

    with HostileServer(polite(execute=killed)) as server:
        session = await client.connect(*server.address, username="u", password="p")
        for name in names:
            result = await session.execute(name)
            assert result.status == -1
            assert isinstance(result.signal, str)
        await session.close()


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_a_timed_out_command_is_killed(client: Client) -> None:
    """A time-out ends the command and its children on the server, and keeps the output."""
    marker = client.account.files / "finished"
    done = client.account.path("finished")
    before = {process.pid for process in client.server.processes()}
    with pytest.raises(CommandTimeout) as caught:
        await client.execute(
            f"echo $$; echo noted >&2; sh -c 'sleep 30; touch {done}'", timeout=0.4
        )
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert error.result is not None
    assert error.result.stdout.strip().isdigit()
    assert (error.result.stderr, error.result.status) == ("noted\n", -1)
    assert error.phase == "exec"
    assert re.search(r"after (400 ms|0\.4 s)", str(error))  # each API has its own unit
    left = [
        process.pid
        for process in client.server.processes()
        if process.pid not in before and "sshd" not in process.argv[0]
    ]
    if client.api.name == "sync":
        assert wait_gone(left, 10) == []
    else:  # a stream of tasks sends only while the loop runs
        assert await anyio.to_thread.run_sync(wait_gone, left, 10) == []
    assert not marker.exists()
    assert (await client.execute("echo next")).stdout == "next\n"


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_many_timed_out_commands(client: Client) -> None:
    """Time-outs one after the other cost their channels and nothing else."""
    for _ in range(12):  # more than sshd allows sessions at once
        with pytest.raises(CommandTimeout):
            await client.execute("exec sleep 30", timeout=0.02)
        assert (await client.execute("echo on")).stdout == "on\n"
