"""The terminal and the environment that a shell gets."""

from __future__ import annotations

from hussh import Connection, Pty, SSHResult


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
