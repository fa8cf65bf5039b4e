"""OpenSSH's container of private keys, made by hand: what is refused, and how."""

from __future__ import annotations

from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hussh._policy.keys.key_files import parse_private_key
from hussh._policy.keys.openssh_format import MAX_BCRYPT_ROUNDS
from hussh._policy.wire import mpint, string, uint32
from hussh.errors import (
    KeyUnreadable,
)
from tests.support.key_bytes import ED_BLOB, container, ed25519_section, only_our_errors

SMALL = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    "kind", [b"sk-ssh-ed25519@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com"]
)
def test_a_fido_handle_points_to_the_agent(kind: bytes) -> None:
    """A security key's file is recognised before any passphrase is asked for."""
    data = container(string(kind) + string(bytes(32)), b"", b"aes256-ctr")
    with pytest.raises(KeyUnreadable, match=r"FIDO security key .*use it through ssh-agent"):
        parse_private_key(data, None, "key")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (container(string(b"ssh-dss"), b""), "DSA key"),
        (container(string(b"ssh-new"), b""), "'ssh-new'"),
        (container(ED_BLOB, b"", count=2), "more than one key"),
        (container(ED_BLOB, ed25519_section(check=8)), "check values"),
        (container(ED_BLOB, ed25519_section()), "halves do not match"),
        (container(ED_BLOB, ed25519_section(padding=b"\1\3")), "wrong padding"),
        (container(ED_BLOB, ed25519_section(seed=b"")), "damaged"),
        (container(ED_BLOB, ed25519_section()[:50]), "damaged"),
        (container(ED_BLOB, b"", b"aes256-ctr"), "damaged"),
    ],
    ids=["dsa", "unknown", "two", "check", "halves", "padding", "empty", "cut", "options"],
)
def test_a_broken_container_is_unreadable(data: bytes, text: str) -> None:
    """Every inconsistency within OpenSSH's format has its text."""
    with pytest.raises(KeyUnreadable, match=text):
        parse_private_key(data, "passphrase", "key")


@pytest.mark.parametrize("rounds", [0, MAX_BCRYPT_ROUNDS + 1, 2**32 - 1])
def test_absurd_bcrypt_rounds_are_refused(rounds: int) -> None:
    """A file cannot make us compute for hours."""
    options = string(b"salt") + uint32(rounds)
    data = container(ED_BLOB, bytes(64), b"aes256-ctr", options)
    with pytest.raises(KeyUnreadable, match=f"asks for {rounds} bcrypt rounds"):
        parse_private_key(data, "passphrase", "key")


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize("changed", range(6), ids=["n", "e", "d", "iqmp", "p", "q"])
def test_inconsistent_rsa_numbers_are_refused(changed: int) -> None:
    """Numbers that do not belong together never get to sign: a wrong signature leaks the key."""
    private = rsa_key().private_numbers()
    public = private.public_numbers
    numbers = [public.n, public.e, private.d, private.iqmp, private.p, private.q]

    def data() -> bytes:
        fields = b"".join(mpint(number) for number in numbers)
        section = uint32(7) * 2 + string(b"ssh-rsa") + fields + string(b"")
        return container(string(b"ssh-rsa") + mpint(numbers[1]) + mpint(numbers[0]), section)

    assert parse_private_key(data(), None, "key").public.algorithm == "ssh-rsa"
    numbers[changed] += 2
    with pytest.raises(KeyUnreadable, match="do not make an RSA key"):
        parse_private_key(data(), None, "key")


@SMALL
@given(blob=st.binary(max_size=80), section=st.binary(max_size=200), count=st.integers(0, 2))
def test_garbage_in_a_container_is_our_error(blob: bytes, section: bytes, count: int) -> None:
    """Any bytes in OpenSSH's container are a HusshError."""
    only_our_errors(container(blob, section, count=count), None)
    only_our_errors(container(ED_BLOB, uint32(7) * 2 + section), None)
    options = string(b"salt") + uint32(1)
    for cipher in (b"aes256-ctr", b"aes128-cbc", b"aes256-gcm@openssh.com"):
        only_our_errors(container(ED_BLOB, section, cipher, options), "passphrase")
