"""An `ssh` daemon of Erlang/OTP on loopback, for tests of what only its SFTP server does.

It makes its own host key, and takes one password.  Files are those of the test's folder; the
daemon runs as who runs the tests, and ends when its stdin does.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["PASSWORD", "USER", "ErlangSsh", "erlang_ssh"]

USER, PASSWORD = "joe", "concurrent"

#: Prints the port, then waits for the end of stdin.
_DAEMON = """
{{ok, _}} = application:ensure_all_started(ssh),
{{ok, Daemon}} = ssh:daemon({{127,0,0,1}}, 0, [
    {{system_dir, "{folder}/etc"}}, {{user_dir, "{folder}/etc"}},
    {{user_passwords, [{{"{user}", "{password}"}}]}}, {{parallel_login, true}},
    {{subsystems, [ssh_sftpd:subsystem_spec([{{cwd, "{folder}/files"}}])]}}]),
{{ok, Info}} = ssh:daemon_info(Daemon),
io:format("~p~n", [proplists:get_value(port, Info)]),
io:get_line(""),
halt(0).
"""


@dataclass(frozen=True)
class ErlangSsh:
    """A running daemon; relative paths are in `files`."""

    host: str
    port: int
    files: Path


@contextmanager
def erlang_ssh(folder: Path) -> Iterator[ErlangSsh]:
    """Run a daemon with its files in a folder; the test is skipped where Erlang is missing."""
    erl = shutil.which("erl")
    if erl is None:
        pytest.skip("Erlang is not installed (Debian: erlang-ssh)")
    for name in ("etc", "files"):
        (folder / name).mkdir()
    key = folder / "etc" / "ssh_host_ed25519_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    program = _DAEMON.format(folder=folder, user=USER, password=PASSWORD)
    command = [erl, "-noshell", "-eval", program]
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "ERL_CRASH_DUMP_SECONDS": "0"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=folder
    ) as daemon:
        assert daemon.stdout is not None
        try:
            line = daemon.stdout.readline()
            if not line.strip().isdigit():
                pytest.skip(f"Erlang's ssh does not start: {line!r}")
            yield ErlangSsh("127.0.0.1", int(line), folder / "files")
        finally:
            daemon.kill()
