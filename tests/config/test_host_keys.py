"""Host keys as the ssh configuration has them: revoked ones, commands, authorities, aliases."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from hussh import ConfigError, Connection, ConnectTimeout, HostKeyError
from hussh._policy.hostkeys.configured_keys import parse_revoked
from hussh.aio import AsyncConnection
from tests.config.test_connections import block, write
from tests.support.keys import Keys
from tests.support.sshd import Sshd


def keygen(*arguments: object) -> None:
    """Run ssh-keygen."""
    subprocess.run(["ssh-keygen", "-q", *map(str, arguments)], check=True, capture_output=True)


@pytest.mark.parametrize("is_krl", [False, True])
def test_revoked(is_krl: bool, bastion: Sshd, target: Sshd, tmp_path: Path) -> None:
    """A key in a list, or in a KRL, is refused on the hop that shows it, whatever is recorded."""
    key = target.host_keys["ed25519"]
    public = tmp_path / "key.pub"
    public.write_text(f"# a comment\n{key.public_line}\n")
    path = tmp_path / "revoked"
    if is_krl:
        keygen("-k", "-f", path, key.path.with_suffix(".pub"))
    else:
        path.write_text(public.read_text())
    identity = f"IdentityFile {target.alice.key.path}"
    lines = (identity, f"RevokedHostKeys {path}", "HostKeyAlgorithms ssh-ed25519")
    config = write(
        tmp_path,
        block("b", bastion, *lines) + block("t", target, *lines, "ProxyJump b"),
        bastion,
        target,
    )
    with pytest.raises(HostKeyError, match="revoked") as caught:
        Connection("t", config=config)
    assert caught.value.hop == f"alice@{target.host}:{target.port}"
    with Connection("b", config=config):
        pass


def test_revoked_files_that_cannot_be_read(keys: Keys, tmp_path: Path) -> None:
    """A missing, a broken and a too clever file are errors: ssh trusts nobody then."""
    config = write(tmp_path, f"Host t\n RevokedHostKeys {tmp_path}/nowhere\n")
    with pytest.raises(ConfigError, match=r"RevokedHostKeys for .*No such file"):
        Connection("t", config=config)
    for data in (b"ssh-ed25519\n", b"x y z\n", b"SSHKRL\n\0junk"):
        with pytest.raises(ConfigError, match="/f"):
            parse_revoked(data, "/f")
    spec, krl = tmp_path / "spec", tmp_path / "krl"
    spec.write_text(f"sha256: {keys.get().public_line}\n")
    keygen("-k", "-f", krl, spec)
    with pytest.raises(ConfigError, match="hashes"):
        parse_revoked(krl.read_bytes(), "/f")


def test_known_hosts_command(target: Sshd, tmp_path: Path) -> None:
    """What the command prints is known, under the name that it was asked for."""
    program, log = tmp_path / "keys", tmp_path / "log"
    program.write_text(f'#!/bin/sh\necho "$@" >{log}\ncat {tmp_path}/printed\n')
    program.chmod(0o755)
    (tmp_path / "printed").write_text(target.known_hosts_line())
    lines = (f"IdentityFile {target.alice.key.path}", f"KnownHostsCommand {program} %H %u")
    config = write(tmp_path, block("t", target, *lines))
    with Connection("t", config=config) as connection:
        assert connection.execute("id -un").stdout == "alice\n"
    assert log.read_text().split()[0] == f"[{target.host}]:{target.port}"
    (tmp_path / "printed").write_text("")
    with pytest.raises(HostKeyError, match="not known"):
        Connection("t", config=config)
    program.write_text("#!/bin/sh\necho gone >&2\nexit 3\n")
    with pytest.raises(ConfigError, match="exit status 3: gone"):
        Connection("t", config=config)
    program.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        anyio.run(AsyncConnection("t", config=config).connect)
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    with pytest.raises(ConnectTimeout, match="config"):
        Connection("t", config=config, timeout=300)


def test_authority_and_alias(sshd_factory: Callable[..., Sshd], keys: Keys, tmp_path: Path) -> None:
    """HostKeyAlias is looked up; CASignatureAlgorithms decides about the authority's signature."""
    authority, host = keys.get(name="host-authority"), keys.get(name="host-server1")
    known = tmp_path / "known"
    server = sshd_factory(name="server1")
    public = server._config / "certified.pub"
    public.write_text(host.public_line)
    keygen("-s", authority.path, "-I", "x", "-h", "-n", "other.example", public)
    certificate = server._config / "certified-cert.pub"
    server._options["HostCertificate"] = server._seen(certificate)
    server.stop()
    server.restart()
    known.write_text(f"@cert-authority *.example {authority.public_line}\n")
    lines = [
        f"IdentityFile {server.alice.key.path}",
        "HostKeyAlias other.example",
        f"UserKnownHostsFile {known}",
    ]
    with Connection("t", config=write(tmp_path, block("t", server, *lines))) as connection:
        assert connection.execute("id -un").stdout == "alice\n"
    lines.append("CASignatureAlgorithms ecdsa-sha2-nistp256")
    with pytest.raises(HostKeyError, match="CASignatureAlgorithms"):
        Connection("t", config=write(tmp_path, block("t", server, *lines)))
