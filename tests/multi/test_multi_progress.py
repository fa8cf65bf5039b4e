"""The progress display: on a terminal, when it is asked for, and nowhere else."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from hussh.multi_conn import MultiConnection
from tests.multi.conftest import HOSTS, Multi
from tests.support.terminal import Terminal

ROOT = str(Path(__file__).parents[2])


def test_on_a_terminal(
    multi: Multi, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each operation has a line that ends with all hosts done and the failures counted."""
    hosts = [*HOSTS[:3], {"host": HOSTS[3], "port": 1}]
    with redirect_stderr(terminal), multi(hosts, progress=True) as connected:
        assert len(connected.execute("true")) == 4
    shown = terminal.getvalue()
    assert "connect" in shown
    assert "execute" in shown
    assert shown.count("4/4") >= 2
    assert "1 failed" in shown
    assert capsys.readouterr().out == ""


def test_what_is_printed_meanwhile(
    multi: Multi, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the program prints goes to its stdout, which is a file, and not to the terminal."""
    with redirect_stderr(terminal), multi(2, progress=True) as connected:
        for host, _ in connected.stream("true"):
            print(f"done: {host}")
    assert sorted(capsys.readouterr().out.splitlines()) == [f"done: {one}" for one in HOSTS[:2]]
    assert "done:" not in terminal.getvalue()


def test_on_one_terminal(multi: Multi, terminal: Terminal) -> None:
    """Where stdout is the terminal, too, a long line stays one line above the display."""
    line = "word " * 50
    with (
        redirect_stderr(terminal),
        redirect_stdout(terminal),
        multi(1, progress=True) as connected,
    ):
        for _ in connected.stream("true"):
            print(line)
    assert f"{line}\n" in terminal.getvalue()


async def test_for_tasks(loop: str, multi: Multi, terminal: Terminal) -> None:
    """The async twin shows the same, also of a stream."""
    with redirect_stderr(terminal):
        async with multi(2, progress=True) as connected, connected.stream("true") as stream:
            assert len([host async for host, _ in stream]) == 2
    assert terminal.getvalue().count("2/2") >= 2


def test_quiet_unless_asked_for(multi: Multi, terminal: Terminal) -> None:
    """Without progress=True a terminal sees nothing."""
    with redirect_stderr(terminal), multi(2) as connected:
        connected.execute("true")
    assert terminal.getvalue() == ""


def test_quiet_without_a_terminal(multi: Multi, capfd: pytest.CaptureFixture[str]) -> None:
    """Without a terminal nothing is shown, though it was asked for."""
    with multi(2, progress=True) as connected:
        connected.execute("true")
    assert capfd.readouterr() == ("", "")


def test_rich_is_missing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the error says what to install; at once, not in the middle of the work."""
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with (
        redirect_stderr(terminal),
        pytest.raises(ImportError, match=r"pip install 'hussh\[progress\]'"),
    ):
        MultiConnection([], progress=True)
    with redirect_stderr(io.StringIO()):
        MultiConnection([], progress=True)


def test_loaded_when_needed() -> None:
    """`hussh.multi_conn` is there after `import hussh`, as in 0.3.3, but only loaded when used."""
    code = (
        "import hussh, sys; before = 'anyio' in sys.modules; hussh.multi_conn.MultiConnection;"
        "hussh.aio.AsyncConnection; print(before, 'anyio' in sys.modules, 'rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True", "False"], done.stderr
