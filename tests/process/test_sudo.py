"""`sudo`: the real one, with a sudoers file and a PAM stack that only the test's server sees."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hussh import (
    CommandTimeout,
    Connection,
    HusshError,
    SSHResult,
    SudoError,
    SudoNeedsTerminal,
    SudoNotPermitted,
    SudoPasswordError,
)
from hussh.multi_conn import MultiConnection
from tests.conformance.apis import APIS, Api, run_in
from tests.conformance.awaited import Awaited
from tests.support.preload import compile_library
from tests.support.sshd import Sshd

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.skipif(shutil.which("sudo") is None, reason="sudo is not installed"),
]

#: alice may become root with her password, bob without it, sshd from a terminal only, and nobody
#: for one program. bob may do nothing.
SUDOERS = """
Defaults timestamp_timeout=0, !mail_no_user, logfile=/var/log/sudo.log
Defaults>sshd requiretty
root ALL=(ALL) ALL
alice ALL=(root, sshd) ALL
alice ALL=(bob) NOPASSWD: ALL
alice ALL=(nobody) /usr/bin/id
"""
REST = "account required pam_unix.so\nsession required pam_permit.so\n"
PAM = "auth required pam_unix.so nodelay\n" + REST

Servers = Callable[..., Sshd]


@pytest.fixture
def server(sshd_factory: Servers) -> Sshd:
    """Start a server whose sudo knows its accounts."""
    return sshd_factory(
        etc={"sudoers": SUDOERS, "pam.d/sudo": PAM},
        options={"AcceptEnv": "HUSSH_*"},
        hosts={socket.gethostname(): "127.0.0.1"},  # else sudo warns; on the other servers it does
    )


def login(server: Sshd, name: str = "alice", **options: Any) -> Connection:
    """Connect with a key, so that only sudo needs the password."""
    account = server.accounts[name]
    return Connection(
        server.host, server.port, name, private_key=account.key.path, timeout=30_000, **options
    )


@pytest.fixture
def alice(server: Sshd) -> Iterator[Connection]:
    """Return a connection of alice's."""
    with login(server) as connection:
        yield connection


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_password(server: Sshd, api: Api) -> None:
    """Every API gives sudo the password, and the command its input."""
    secret = server.alice.password

    async def main() -> None:
        session = await api.connect(
            server.host,
            server.port,
            username="alice",
            private_key=server.alice.key.path,
            timeout=30,
        )
        conn: Any = Awaited(session.real)
        try:
            script = "id -un; cat; echo err >&2; exit 3"
            result = await conn.sudo(script, password=secret, input="in\n")
            assert result == SSHResult(b"root\nin\n", b"err\n", 3)
            assert sorted(result.output_bytes) == sorted(b"root\nin\nerr\n")
            result = await conn.sudo(script, password=secret, input="in\n", user="bob")
            assert result == SSHResult(b"bob\nin\n", b"err\n", 3)
            with pytest.raises(SudoPasswordError, match=r"not accept the password.* \[alice@"):
                await conn.sudo("id", password="wrong", input=f"{secret}\n")
            result = await conn.sudo("tty; id -un", password=secret, pty=True)
            assert result.stdout.startswith("/dev/")
            assert result.stdout.endswith("\r\nroot\r\n")
        finally:
            await session.close()

    api.run(main)


def test_refusals(server: Sshd, alice: Connection) -> None:
    """What sudo refuses is one of three errors, which are PermissionErrors, and says what to do."""
    with pytest.raises(SudoPasswordError, match="give it as password="):
        alice.sudo("id")
    with pytest.raises(SudoNotPermitted, match=r"not permit it: .*not allowed to execute"):
        alice.sudo("id", user="nobody", password=server.alice.password)
    with pytest.raises(SudoNeedsTerminal, match="pty=True"):
        alice.sudo("id", user="sshd", password=server.alice.password)
    result = alice.sudo("id -un", user="sshd", password=server.alice.password, pty=True)
    assert result.stdout == "sshd\r\n"
    with pytest.raises(SudoPasswordError, match="not accept the password"):
        alice.sudo("id", password="wrong", pty=True)
    with pytest.raises(SudoError, match="unknown user") as caught:
        alice.sudo("id", user="no-such", password=server.alice.password)
    assert type(caught.value) is SudoError
    assert isinstance(caught.value, PermissionError)
    with login(server, "bob") as bob, pytest.raises(SudoNotPermitted, match="not in the sudoers"):
        bob.sudo("id", password=server.bob.password)
    assert alice.execute("echo on").stdout == "on\n"


def test_options(server: Sshd, alice: Connection) -> None:
    """Quotes, variables, `check` and `on_output` reach the command as with `execute`."""
    secret = server.alice.password
    came: list[tuple[str, bytes]] = []
    result = alice.sudo(
        "printf '%s\\n' \"$HUSSH_A\" 'it''s' \"$0\" ${LANGUAGE-none}",
        password=secret,
        env={"HUSSH_A": "a 'b' $c"},
        check=True,
        on_output=lambda stream, part: came.append((stream, part)),
    )
    assert result.stdout == "a 'b' $c\nits\n/bin/sh\nnone\n"
    assert b"".join(part for _, part in came) == result.stdout_bytes
    with pytest.raises(HusshError, match="failed with status 4: last"):
        alice.sudo("echo last >&2; exit 4", password=secret, check=True)
    for wrong in ("a\nb", "a\0b"):
        with pytest.raises(ValueError, match="password"):
            alice.sudo("id", password=wrong)
    with pytest.raises(ValueError, match="input= beside password="):
        alice.sudo(["cat"], password=secret, input="x")


def test_a_list_of_arguments(server: Sshd, alice: Connection) -> None:
    """A list runs as it is, for sudoers that permit certain programs; errors are told as well."""
    secret = server.alice.password
    permitted = partial(alice.sudo, user="nobody", password=secret)
    assert permitted(["/usr/bin/id", "-un"]) == SSHResult(b"nobody\n", b"", 0)
    with pytest.raises(SudoNotPermitted, match="not allowed to execute"):
        permitted(["/usr/bin/printf", "x"])
    with pytest.raises(SudoPasswordError, match="not accept"):
        alice.sudo(["id"], password="wrong")
    with pytest.raises(SudoPasswordError, match="give it as password="):
        alice.sudo(["id"])
    result = alice.sudo(["sh", "-c", "cat; echo Sorry >&2; exit 1"], user="bob", input="in\n")
    assert result == SSHResult(b"in\n", b"Sorry\n", 1)
    result = alice.sudo(["sh", "-c", "printf 'name: ' >&2; cat"], password=secret)
    assert result == SSHResult(b"", b"name: ", 0)
    with pytest.raises(CommandTimeout, match="had not asked for the password"):
        alice.sudo(["cat"], user="bob", password=secret, timeout=2000)
    assert alice.sudo(["cat"], user="bob").status == 0
    for wrong in ([], {"id"}, [1]):
        with pytest.raises(TypeError, match="command must be"):
            alice.sudo(wrong)  # type: ignore[arg-type]


def test_programs_get_no_answer(server: Sshd, alice: Connection) -> None:
    """A program that shows sudo's own prompt, found in /proc, reads its input and no password."""
    phish = (
        "p=$(tr '\\0' '\\n' </proc/$PPID/cmdline | grep '^.hussh' | head -n 1);"
        ' printf %s "$p" >&2; read -r got; echo "got $got"'
    )
    for password in (server.alice.password, None):
        user = "bob" if password is None else "root"
        result = alice.sudo(phish, user=user, password=password, input="mine\n")
        assert result.stdout == "got mine\n"
        assert "hussh" in result.stderr


def test_the_password_is_nowhere(
    server: Sshd, alice: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """No process list, log, history, error or repr has the password, right or wrong."""
    caplog.set_level(0)
    secret, wrong = server.alice.password, "wrong-but-secret"
    look = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '"
    everything = [alice.sudo(look, password=secret).stdout]
    assert "sudo -S -p" in everything[0]
    with pytest.raises(SudoPasswordError) as caught:
        alice.sudo("id", password=wrong)
    everything += [repr(caught.value), str(caught.value), str(vars(caught.value)), caplog.text]
    everything += [server.log_text(), alice.sudo("cat /var/log/sudo.log", password=secret).stdout]
    assert "COMMAND=" in everything[-1]
    everything.append(alice.execute("cat ~/.*history ~/.sh_history 2>/dev/null").stdout)
    for text in everything:
        assert secret not in text
        assert wrong not in text


def test_localised(sshd_factory: Servers) -> None:
    """A sudo that speaks German is understood, and the command's language is left as it was."""
    server = sshd_factory(
        etc={"sudoers": SUDOERS, "pam.d/sudo": PAM},
        options={"SetEnv": ["LANG=C.UTF-8 LANGUAGE=de"]},
    )
    with login(server) as alice:
        raw = alice.execute("sudo -n id").stderr
        if "Passwort" not in raw:
            pytest.skip("sudo has no German here")
        assert alice.sudo("id -un", password=server.alice.password).stdout == "root\n"
        for pty in (False, True):
            with pytest.raises(SudoPasswordError, match="not accept"):
                alice.sudo("id", password="wrong", pty=pty)
        with pytest.raises(SudoNotPermitted):
            alice.sudo("id", user="nobody", password=server.alice.password)


@pytest.fixture
def asking(sshd_factory: Servers, tmp_path: Path) -> Callable[[str], Sshd]:
    """Start servers whose PAM asks a question of its own, in place of sudo's prompt."""

    def start(question: str) -> Sshd:
        source = Path(__file__).parents[1] / "support/pam_question.c"
        try:
            module = compile_library(source, tmp_path / "pam_question.so")
        except OSError as error:
            pytest.skip(str(error))
        stack = (
            f"auth requisite /run/config/pam_question.so [{question}]\n"
            "auth required pam_unix.so nodelay use_first_pass\n"
        )
        sudoers = SUDOERS + "Defaults !passprompt_override\n"
        server = sshd_factory(etc={"sudoers": sudoers, "pam.d/sudo": stack + REST})
        subprocess.run(["cp", module, server._config / "pam_question.so"], check=True)
        return server

    return start


@pytest.mark.parametrize("pty", [False, True])
def test_a_prompt_of_pam(asking: Callable[[str], Sshd], pty: bool) -> None:
    """A password prompt that PAM puts in place of ours is answered, once."""
    server = asking("LDAP Password for you: ")
    with login(server) as alice:
        result = alice.sudo("id -un", password=server.alice.password, pty=pty)
        assert result.stdout.replace("\r", "") == "root\n"
        with pytest.raises(SudoPasswordError, match="not accept"):
            alice.sudo("id", password="wrong", pty=pty)


def test_another_question_of_pam(asking: Callable[[str], Sshd]) -> None:
    """A question for something else gets no password, and is named."""
    server = asking("Verification code: ")
    with login(server) as alice, pytest.raises(SudoError, match="asks 'Verification code:'"):
        alice.sudo("id", password=server.alice.password)


def test_many_hosts(server: Sshd) -> None:
    """Many hosts get one password or one for each, and what sudo refuses is that host's result."""
    with MultiConnection.from_shared_auth(
        [server.host, "localhost"],
        "alice",
        key_path=server.alice.key.path,
        port=server.port,
        timeout=30,
    ) as multi:
        secret = server.alice.password
        result = multi.sudo("id -un; cat", password={server.host: secret}, input="x")
        assert result[server.host].stdout == "root\nx"
        failed = result["localhost"]
        assert (failed.status, type(failed.error)) == (-1, SudoPasswordError)
        assert "give it as password=" in failed.stderr
        assert multi.sudo(["id", "-un"], user="bob").failed is None


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_many_hosts_in_a_loop(server: Sshd, loop: str) -> None:
    """The async twin does the same."""
    secret = server.alice.password

    async def main() -> None:
        async with MultiConnection.from_shared_auth(
            [server.host], "alice", key_path=server.alice.key.path, port=server.port, timeout=30
        ) as multi:
            result = await multi.sudo("id -un", password=secret, check=True)
            assert result[server.host].stdout == "root\n"
            refused = (await multi.sudo("id", password="wrong"))[server.host]
            assert isinstance(refused.error, SudoPasswordError)

    run_in(loop, main)


def test_sudo_in_a_shell(server: Sshd, alice: Connection) -> None:
    """A user may lead sudo with `expect`, too, and sees no echo of the password."""
    with alice.shell(pty=True) as shell:
        shell.send_line("PS1='ready''> '; sudo -p 'secret''? ' -k id -un")
        shell.expect_exact("secret? ", timeout=30_000)
        shell.send_line("wrong")
        shell.expect_exact("secret? ", timeout=30_000)
        shell.send_line(server.alice.password)
        found = shell.expect(r"(\w+)\r\nready> ", timeout=30_000)
        assert found[1] == "root"
        assert server.alice.password not in found.before
