"""Servers with keys of several types: the recorded one is asked for, whatever its type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hussh import Connection, HostKeyError
from tests.hostkeys.lines import line, name_of, write
from tests.support.keys import Keys
from tests.support.sshd import Sshd

KINDS = ("ed25519", "ecdsa-256", "rsa")


def connect(server: Sshd, file: Path, **options: Any) -> Connection:
    """Log in as alice under the strict policy."""
    return Connection(
        server.host,
        server.port,
        server.alice.name,
        private_key=server.alice.key.path,
        known_hosts=file,
        host_key_policy="strict",
        **options,
    )


@pytest.mark.parametrize("names", ["name", "hashed", "bare", "wildcard"])
@pytest.mark.parametrize("kind", KINDS)
def test_only_one_type_is_recorded(kind: str, names: str, target: Sshd, tmp_path: Path) -> None:
    """With any one of the server's three keys recorded, in any notation, strict connects."""
    where = {"bare": target.host, "wildcard": "[127.*]:*"}.get(names, name_of(target))
    entry = line(where, target.host_keys[kind])
    connect(target, write(tmp_path / "known", entry, hashed=names == "hashed")).close()


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_recorded_key_has_changed(
    kind: str, target: Sshd, keys: Keys, tmp_path: Path
) -> None:
    """A changed key is refused even though the server's other keys would be new ones."""
    old = keys.get(kind, name="before")
    file = write(tmp_path / "known", line(name_of(target), old))
    with pytest.raises(HostKeyError) as caught:
        connect(target, file)
    error = caught.value
    assert error.reason == "changed"
    assert error.fingerprint == target.host_keys[kind].fingerprint  # of the same type
    assert error.recorded == (old.fingerprint,)
    assert target.authentications() == []


@pytest.mark.parametrize("algorithm", ["rsa-sha2-256", "rsa-sha2-512"])
def test_rsa_key_by_either_signature(algorithm: str, target: Sshd, tmp_path: Path) -> None:
    """A recorded RSA key is good for both of its SHA-2 signatures."""
    file = write(tmp_path / "known", line(name_of(target), target.host_keys["rsa"]))
    connect(target, file, host_key_algorithms=[algorithm]).close()


def test_recorded_type_comes_before_the_choice(target: Sshd, tmp_path: Path) -> None:
    """host_key_algorithms= says what may be offered; the recorded type still comes first."""
    file = write(tmp_path / "known", line(name_of(target), target.host_keys["rsa"]))
    connect(target, file, host_key_algorithms=["ssh-ed25519", "rsa-sha2-256"]).close()


def test_recorded_type_that_the_server_lost(target: Sshd, keys: Keys, tmp_path: Path) -> None:
    """A server that has no key of the recorded type any more counts as changed."""
    file = write(tmp_path / "known", line(name_of(target), keys.get("ecdsa-384", name="gone")))
    with pytest.raises(HostKeyError) as caught:
        connect(target, file)
    assert caught.value.reason == "changed"
