"""Host certificates that an attacker made, cut or stole, on the wire."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.client_process import ClientProcess
from tests.support.hostile import HostileServer, polite
from tests.support.hostile_crypto import HostKey
from tests.support.hostile_wire import Fields, Msg, string, u32

NAME = "ssh-ed25519-cert-v01@openssh.com"
AUTHORITY, OTHER = HostKey(), HostKey()


def u64(value: int) -> bytes:
    """Return a uint64 of RFC 4251."""
    return value.to_bytes(8, "big")


class Certified(HostKey):
    """A host key with a certificate; `certificate` is called with the key and returns it."""

    def __init__(self, certificate: Callable[[HostKey], bytes]) -> None:
        super().__init__()
        self.algorithms = (NAME,)
        self.blob = certificate(self)

    def sign(self, algorithm: str, data: bytes) -> bytes:
        """Sign as the plain key does (PROTOCOL.certkeys of OpenSSH)."""
        return super().sign("ssh-ed25519", data)


def signed(
    key: HostKey,
    *,
    authority: HostKey = AUTHORITY,
    shown: bytes | None = None,
    principals: bytes = string("127.0.0.1"),
    inner: Callable[[bytes], bytes] = bytes,
) -> bytes:
    """Return a certificate for a host key.

    Args:
        key: whose public key it certifies.
        authority: who signs it.
        shown: whom it names as signer; None means the authority.
        principals: the list of names.
        inner: changes what is signed.
    """
    fields = Fields(key.blob)
    fields.string()
    now = int(time.time())
    body = inner(
        string(NAME) + string(bytes(32)) + string(fields.string()) + u64(1) + u32(2)
        + string("id") + string(principals) + u64(now - 3600) + u64(now + 3600)
        + string(b"") * 3 + string(authority.blob if shown is None else shown)
    )  # fmt: skip
    return body + string(authority.sign("ssh-ed25519", body))


def other_key(key: HostKey) -> bytes:
    """Return the good certificate of another host, whose key the attacker does not have."""
    return signed(OTHER)


def for_users(key: HostKey) -> bytes:
    """Return a certificate of the kind that users show."""
    return signed(key, inner=lambda body: body.replace(u64(1) + u32(2), u64(1) + u32(1)))


def short_key(key: HostKey) -> bytes:
    """Return one whose public key lacks a byte."""
    return signed(key).replace(u32(32) + key.blob[-32:], u32(31) + key.blob[-31:])


FORGED: dict[str, Callable[[HostKey], bytes]] = {
    "stolen": other_key,
    "an authority of its own": lambda key: signed(key, authority=OTHER),
    "signed by itself": lambda key: signed(key, authority=key),
    "in the authority's name": lambda key: signed(key, authority=OTHER, shown=AUTHORITY.blob),
    "signed by a certificate": lambda key: signed(key, shown=signed(AUTHORITY)),
    "for another host": lambda key: signed(key, principals=string("10.0.0.1")),
    "principals past the end": lambda key: signed(key, principals=u32(0xFFFFFFFF) + b"127.0.0.1"),
    "a thousand principals": lambda key: signed(key, principals=string("x" * 20) * 1000),
    "for users": for_users,
    "cut in the key": lambda key: signed(key)[:80],
    "cut in the signer": lambda key: signed(key)[:-140],
    "cut in the signature": lambda key: signed(key)[:-10],
    "a longer one": lambda key: signed(key) + b"x",
    "a key of 31 bytes": short_key,
    "nothing but its name": lambda key: string(NAME),
}


def known_hosts(folder: Path) -> list[str]:
    """Return files that trust the authority for every host."""
    (folder / "known").write_text(f"@cert-authority * {AUTHORITY.public_line}\n")
    return [str(folder / "known")]


def test_a_good_one(client: ClientProcess, tmp_path: Path) -> None:
    """A certificate of the authority for this address lets the command run."""
    with HostileServer(polite(), host_keys=[Certified(signed)]) as server:
        outcome = client.connect_to(
            server, "echo in", known_hosts=known_hosts(tmp_path), host_key_policy="strict"
        )
    assert outcome.results == [("in\n", "", 0)], outcome


@pytest.mark.parametrize("name", FORGED)
def test_forged(client: ClientProcess, name: str, tmp_path: Path) -> None:
    """No credential reaches a server whose certificate proves nothing."""
    with HostileServer(polite(), host_keys=[Certified(FORGED[name])]) as server:
        outcome = client.connect_to(
            server, "echo in", known_hosts=known_hosts(tmp_path), host_key_policy="strict"
        )
        conn = server.wait()
    assert outcome.refused, outcome
    assert Msg.USERAUTH_REQUEST not in conn.received
