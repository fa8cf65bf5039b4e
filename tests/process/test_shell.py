"""`Connection.shell`: the interactive shell of hussh 0.3.3."""

from __future__ import annotations

import pytest

from hussh import ChannelError, Connection, Pty, SSHResult


def test_result_after_the_block(connection: Connection) -> None:
    """What the shell said and how it ended is in `result`."""
    with connection.shell() as shell:
        shell.send("echo hello")
        shell.send("echo oops >&2")
        shell.send("exit 5")
    assert shell.result == SSHResult(b"hello\n", b"oops\n", 5)


def test_read_ends_the_input(jumped: Connection) -> None:
    """`read` sends EOF and drains; state lives on between lines before that."""
    with jumped.shell() as shell:
        shell.send("word=kept")
        shell.send("echo $wo", add_newline=False)
        shell.send("rd")
        answer = shell.read()
    assert answer == SSHResult(b"kept\n", b"", 0)
    assert shell.result == SSHResult(b"", b"", 0)


def test_terminal_shell(connection: Connection) -> None:
    """With a terminal the block says exit; the result has what the screen showed."""
    with connection.shell(pty=True) as shell:
        shell.send("stty size")
    assert shell.result is not None
    assert "24 80" in shell.result.stdout
    assert shell.result.status == 0


def test_resize(connection: Connection) -> None:
    """The terminal learns its new size."""
    with connection.shell(pty=True) as shell:
        shell.resize(100, 50)
        shell.send("stty size")
    assert shell.result is not None
    assert "50 100" in shell.result.stdout


def test_terminal_of_any_size_and_environment(target_accepting_env: Connection) -> None:
    """`Pty` says what the terminal is, and variables reach the shell that the server accepts."""
    with target_accepting_env.shell(
        Pty("vt220", columns=132, rows=43), env={"LC_HUSSH": "grüß dich", "REFUSED": "x"}
    ) as shell:
        shell.send('stty size; echo "$TERM,$LC_HUSSH,$REFUSED."')
    assert shell.result is not None
    assert "43 132" in shell.result.stdout
    assert "vt220,grüß dich,." in shell.result.stdout
    with target_accepting_env.shell(env={"LC_HUSSH": "no terminal"}) as shell:
        shell.send('test -t 0 || echo "$LC_HUSSH"')
    assert shell.result == SSHResult(b"no terminal\n", b"", 0)


def test_drain_time_out_is_no_error(target, known_hosts) -> None:  # type: ignore[no-untyped-def]
    """A shell that does not end in time gives status -1 and what had come."""
    with Connection(
        target.host,
        target.port,
        target.alice.name,
        private_key=target.alice.key.path,
        known_hosts=known_hosts,
        timeout=1500,
    ) as connection:
        with connection.shell() as shell:
            shell.send("echo before; sleep 1000")
        assert shell.result == SSHResult(b"before\n", b"", -1)
        assert connection.execute("echo usable").stdout == "usable\n"


def test_ended_shell(connection: Connection) -> None:
    """Sending to a shell that has ended is a ChannelError."""
    with connection.shell() as shell:
        shell.send("exit 2")
        with pytest.raises(ChannelError):  # noqa: PT012 - until the news has come
            while True:
                shell.send("echo never")
    assert shell.result is not None
    assert shell.result.status == 2


def test_close_without_block(connection: Connection) -> None:
    """`close` is enough, twice too."""
    shell = connection.shell()
    shell.send("echo x")
    shell.close()
    shell.close()
    assert connection.execute("echo on").stdout == "on\n"
