"""`expect` leads the real passwd, whose files only the test's server has."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from hussh import AuthenticationError, Connection
from tests.support.sshd import Sshd

PAM = "auth required pam_unix.so nodelay\naccount required pam_unix.so\n"
CHANGE = "password required pam_unix.so sha512\n"


@pytest.mark.needs_root
@pytest.mark.skipif(shutil.which("passwd") is None, reason="passwd is not installed")
def test_a_new_password(sshd_factory: Callable[..., Sshd]) -> None:
    """passwd gets its three answers, and then the new password lets in and the old one does not."""
    server = sshd_factory(etc={"pam.d/passwd": PAM + CHANGE})
    account, new = server.alice, "a-New-one-17"
    options: dict[str, Any] = {"port": server.port, "username": "alice", "timeout": 30_000}
    with (
        Connection(server.host, private_key=account.key.path, **options) as connection,
        connection.shell(pty=True) as shell,
    ):
        shell.send_line("exec env LANG=C passwd")
        for question, answer in (
            ("urrent password: ", account.password),
            ("ew password: ", new),
            ("etype new password: ", new),
        ):
            shell.expect_exact(question, timeout=30_000)
            shell.send_line(answer)
        found = shell.expect("updated successfully", timeout=30_000)
        assert new not in found.before
    assert shell.result is not None
    assert shell.result.status == 0
    with Connection(server.host, password=new, **options) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    with pytest.raises(AuthenticationError):
        Connection(server.host, password=account.password, **options)
