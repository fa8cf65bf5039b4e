"""What our patches to libssh2 are for: each case fails without its patch.

With HUSSH_LONG=1 that claim itself is tested: the library is built without the one patch
and the case must then fail, or kill or hang the client.  Patches that make no difference a
server could see have no case here: 0001 (another implementation), 0011 (our own limit is
lower), 0012 and 0100 (no server reaches that code through our hook), 0013 (memory of idle
sessions), 0014 (a few bytes read beyond a message; the answer is an error either way), 0015
to 0018 (the client's own work; csrc/tests/test_secrets.c is about the last two).  Of 0033 the
case is csrc/tests/test_cipher_bounds.c: other patches keep servers away from it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.hostile.client_process import TOP, ClientProcess, Outcome
from tests.support import hostile_transport, hostile_wire
from tests.support.hostile import (
    Conn,
    HostileServer,
    HostKey,
    Tamper,
    Transport,
    polite,
)
from tests.support.hostile_catalogue import length_field, short_body, until
from tests.support.hostile_crypto import CtrHmac
from tests.support.hostile_wire import Fields, kexinit, string

LONG = bool(os.environ.get("HUSSH_LONG"))
WITH_ETM: dict[str, Any] = {"ciphers": ["aes256-ctr"], "macs": ["hmac-sha2-256-etm@openssh.com"]}
PLAIN_MAC: dict[str, Any] = {"ciphers": ["aes256-ctr"], "macs": ["hmac-sha2-256"]}
STRICT = hostile_transport.STRICT_SERVER


def greeted(outcome: Outcome) -> None:
    assert outcome.results == [("right\n", "", 0)], outcome


def refused(outcome: Outcome) -> None:
    assert outcome.refused, outcome
    assert not outcome.results


def ending(phase: str, act: Callable[[Conn], object]) -> Callable[[Conn], None]:
    def script(conn: Conn) -> None:
        until(phase, act)(conn)
        conn.wait_closed()

    return script


def lists(
    kex: str = "curve25519-sha256", to_us: str = "aes256-ctr", to_client: str = "aes256-ctr"
) -> Callable[[bytes], bytes]:
    """An edit of KEXINIT that offers these."""
    macs = ["hmac-sha2-256"]
    names = [kex.split(","), ["ssh-ed25519"], [to_us], [to_client], macs, macs]
    return lambda _: kexinit([*names, ["none"], ["none"], [], []])


def wrong_tag_between_requests(client: ClientProcess) -> None:
    """0002: a wrong tag while a certain answer is waited for made the client spin for ever."""
    act = ending("kex", lambda conn: conn.send_packet(hostile_wire.ignore(), corrupt_mac=True))
    with HostileServer(act) as server:
        refused(client.connect_to(server, "never", timeout=3000))


def lengths(client: ClientProcess) -> None:
    """0003: lengths that wrapped, or were no whole blocks, reached memmove and malloc."""
    for size in range(4):
        with HostileServer(ending("exec", short_body(size))) as server:
            refused(client.connect_to(server, "never", timeout=3000))
    for value in (0xFFFFFFF0, 0xFFFFFFF8, 0xFFFFFFFC):
        with HostileServer(ending("exec", length_field(value)), **WITH_ETM) as server:
            refused(client.connect_to(server, "never", timeout=3000, **WITH_ETM))


def padding(client: ClientProcess) -> None:
    """0003: with encrypt-then-mac the padding length was believed."""

    def act(conn: Conn) -> None:
        conn.send_packet(hostile_wire.ignore(b"x" * 20), padding_length=255)

    with HostileServer(ending("exec", act), **WITH_ETM) as server:
        refused(client.connect_to(server, "never", timeout=3000, **WITH_ETM))


def two_ciphers(client: ClientProcess) -> None:
    """0004: with ChaCha20 towards us our AES-CTR packets went out without their MAC."""

    def picked(conn: Transport) -> None:
        conn.negotiated |= {"cipher_in": "aes256-ctr", "mac_in": "hmac-sha2-256"}
        conn.negotiated |= {"cipher_out": chacha}

    chacha = "chacha20-poly1305@openssh.com"
    edit = lists(f"curve25519-sha256,{STRICT}", "aes256-ctr", chacha)
    tamper = Tamper(edit_kexinit=edit, before_reply=picked)
    with HostileServer(polite(tamper=tamper), macs=["hmac-sha2-256"]) as server:
        greeted(client.connect_to(server, "echo right", timeout=3000))


def another_cipher_later(client: ClientProcess) -> None:
    """0005: a re-exchange that names another cipher ran its code on the old one's state."""
    tamper = Tamper(edit_kexinit=lists(to_us="aes128-ctr", to_client="aes128-ctr"))

    def rekey(conn: Conn) -> None:
        conn.rekey(tamper)

    with HostileServer(polite(after_auth=rekey)) as server:
        refused(client.connect_to(server, "echo never", timeout=3000))


def signal_as_method(client: ClientProcess) -> None:
    """0006: a server that lists ext-info-c got it, a call through a null pointer."""
    edit = lists(f"ext-info-c,curve25519-sha256,{STRICT}")
    tamper = Tamper(edit_kexinit=edit)
    with HostileServer(polite(tamper=tamper), **PLAIN_MAC) as server:
        greeted(client.connect_to(server, "echo right", timeout=3000))


def another_host_key_later(client: ClientProcess) -> None:
    """0007: a re-exchange could bring another host key, which nobody checked."""

    def rekey(conn: Conn) -> None:
        conn.options.host_keys = (HostKey("ed25519"),)
        conn.rekey()

    with HostileServer(polite(after_auth=rekey), host_keys=[HostKey("ed25519")]) as server:
        refused(client.connect_to(server, "echo never", timeout=3000))


def nothing_left_of_failures(client: ClientProcess) -> None:
    """0008: a wrong signature left the server's parsed key behind."""
    tamper = Tamper(edit_signature=lambda good: good[:-1] + bytes([good[-1] ^ 1]))
    with HostileServer(polite(tamper=tamper)) as server:
        client.connect_to(server, times=5)
        outcome = client.connect_to(server, times=60)
    refused(outcome)
    assert outcome.kept < 12_000


class OneForAll:
    """In place of the server's half of the exchange: the value 1, and so the secret 1."""

    @classmethod
    def generate(cls) -> OneForAll:
        return cls()

    @classmethod
    def from_public_bytes(cls, data: bytes) -> OneForAll:
        return cls()

    def public_key(self) -> OneForAll:
        return self

    def public_bytes_raw(self) -> bytes:
        return b"\1"

    def exchange(self, peer: OneForAll) -> bytes:
        return b"\1"


def secret_known_to_all(client: ClientProcess) -> None:
    """0009: a Diffie-Hellman value of 1 made a secret that everybody knows."""
    group = "diffie-hellman-group14-sha256"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(hostile_transport, "X25519PrivateKey", OneForAll)
        patched.setattr(hostile_transport, "X25519PublicKey", OneForAll)
        with HostileServer(kex=[group]) as server:
            refused(client.connect_to(server, "echo never", timeout=3000, key_exchange=[group]))


def extensions_before_keys(client: ClientProcess) -> None:
    """0010: EXT_INFO of anybody on the path, before encryption, decided how we sign."""
    extensions = hostile_wire.ext_info({"server-sig-algs": "nothing-we-know"})
    tamper = Tamper(before_reply=lambda conn: conn.send_packet(extensions))
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder, "key")
        key.write_bytes(
            generate_private_key(65537, 2048).private_bytes(  # only RSA has a choice
                Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
            )
        )
        key.chmod(0o600)
        login: dict[str, Any] = {"private_key": str(key), "password": None}
        with HostileServer(polite(tamper=tamper), strict=False, ext_info=False) as server:
            greeted(client.connect_to(server, "echo right", timeout=3000, **login))


def extensions_without_end(client: ClientProcess) -> None:
    """0030: an EXT_INFO that promises four billion extensions was read as often."""
    lie = hostile_wire.ext_info({"server-sig-algs": "ssh-ed25519"}, count=0xFFFFFFFF)
    with HostileServer(ext_info=lie) as server:
        greeted(client.connect_to(server, "echo right", timeout=3000))


def whole_packet_lengths(client: ClientProcess) -> None:
    """0031: of a length close to 2^32 a small buffer was made, which the client filled for ever."""
    for cipher in ("chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com"):
        for value in (0xFFFFFFF0, 0xFFFFFFE0, 0x80000000):
            with HostileServer(ending("exec", length_field(value)), ciphers=[cipher]) as server:
                refused(client.connect_to(server, "never", timeout=3000, ciphers=[cipher]))


def part_of_a_block(client: ClientProcess) -> None:
    """0032: half a block was decrypted as a whole one, into a buffer of half a block."""

    def act(conn: Conn) -> None:
        cipher = conn._cipher_out
        assert isinstance(cipher, CtrHmac)
        conn.send_body(b"\0" + hostile_wire.ignore(b"xx"))
        cipher.skip(8)  # the client took them from the MAC

    with HostileServer(polite(after_auth=act), **WITH_ETM) as server:
        refused(client.connect_to(server, "echo never", timeout=3000, **WITH_ETM))


def long_messages(client: ClientProcess) -> None:
    """0050: a banner of more than 35 KB was "broken or tampered"; see test_long_packets.py."""
    with HostileServer(polite(banner="x" * 100_000)) as server:
        greeted(client.connect_to(server, "echo right", timeout=3000))


def leading_zeros(client: ClientProcess) -> None:
    """0051: a signature without its leading zeros, as lshd sends them, was called wrong."""
    shorter: list[bool] = []

    def strip(signature: bytes) -> bytes:
        fields = Fields(signature)
        name, number = fields.string(), fields.string()
        shorter.append(number[0] == 0)
        return string(name) + string(number.lstrip(b"\0"))

    # The modulus has two bits of a byte more than 2048 bits need, so that a third of all begin with
    # a zero.  2049 would be useless: of an odd number OpenSSL makes 2048, and one in 180 does.
    keys = [HostKey("rsa", bits=2050)]
    with HostileServer(polite(tamper=Tamper(edit_signature=strip)), host_keys=keys) as server:
        while not {True, False} <= set(shorter):
            greeted(client.connect_to(server, "echo right", timeout=3000))


def last_words(client: ClientProcess) -> None:
    """0052: why a server ended a strict key exchange was lost."""

    def script(conn: Conn) -> None:
        conn.version_exchange()
        conn.key_exchange(Tamper(before_reply=lambda conn: conn.send_disconnect(2, "too late")))

    with HostileServer(script) as server:
        outcome = client.connect_to(server, "never", timeout=3000)
    refused(outcome)
    assert "too late" in outcome.text


CASES = [
    ("0002", wrong_tag_between_requests),
    ("0003", lengths),
    ("0003", padding),
    ("0004", two_ciphers),
    ("0005", another_cipher_later),
    ("0006", signal_as_method),
    ("0007", another_host_key_later),
    ("0008", nothing_left_of_failures),
    ("0009", secret_known_to_all),
    ("0010", extensions_before_keys),
    ("0030", extensions_without_end),
    ("0031", whole_packet_lengths),
    ("0032", part_of_a_block),
    ("0050", long_messages),
    ("0051", leading_zeros),
    ("0052", last_words),
]


#: What must be taken back before a patch, because it changes the same lines; no cases need it.
RESTING = {"0003": ["0050", "0016"], "0009": ["0071"]}


@pytest.mark.parametrize(("patch", "case"), CASES)
def test_with_all_patches(
    client: ClientProcess, patch: str, case: Callable[[ClientProcess], None]
) -> None:
    """The client meets what the patch is for, and is fine."""
    case(client)


def source_without(patch: str, folder: Path) -> Path:
    """Return a new folder with the source of the library without one of our patches."""
    prepared = subprocess.run(
        [sys.executable, TOP / "vendor/fetch.py"], capture_output=True, text=True, check=True
    )
    source = folder / "source"
    shutil.copytree(prepared.stdout.strip(), source)
    for number in (*RESTING.get(patch, ()), patch):
        (file,) = (TOP / "vendor/patches").glob(f"{number}-*.patch")
        subprocess.run(["patch", "-R", "-p1", "-F3", "-i", file], cwd=source, check=True)
    return source  # its record says that it has all patches, so none is put back


def build_without(patch: str, folder: Path) -> Path:
    """Build the library without one of our patches; return a folder to import hussh from."""
    source, package = source_without(patch, folder), folder / "package"
    places = ("--build-lib", folder / "lib", "--build-temp", folder / "temp")
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", *places],
        cwd=TOP,
        env={
            **os.environ,
            "HUSSH_LIBSSH2_SOURCE": str(source),
            "HUSSH_CACHE": str(folder / "cache"),
        },
        check=True,
    )
    shutil.copytree(TOP / "hussh", package / "hussh", ignore=shutil.ignore_patterns("*.so"))
    for built in (folder / "lib/hussh/_native").glob("*.so"):
        shutil.copy(built, package / "hussh/_native")
    return package


@pytest.mark.skipif(not LONG, reason="builds the library several times; HUSSH_LONG=1 runs it")
@pytest.mark.parametrize("patch", dict.fromkeys(patch for patch, _ in CASES))
def test_without_the_patch(patch: str, tmp_path: Path) -> None:
    """The same fails for a client that was built without the patch."""
    package = build_without(patch, tmp_path)
    for case in (case for known, case in CASES if known == patch):
        with ClientProcess(package) as unpatched:
            try:
                case(unpatched)
            except (AssertionError, OSError) as failed:
                print(f"{patch} {case.__name__}: {type(failed).__name__}: {str(failed)[:300]}")
            else:
                pytest.fail(f"{case.__name__} passes without patch {patch}")


@pytest.mark.skipif(not LONG, reason="compiles all C code; HUSSH_LONG=1 runs it")
def test_cipher_bounds_without_the_patch(tmp_path: Path) -> None:
    """csrc/tests/test_cipher_bounds.c writes beyond a buffer on the stack without patch 0033."""
    done = subprocess.run(
        [sys.executable, TOP / "scripts/check-c", "cipher_bounds"],
        env={
            **os.environ,
            "HUSSH_LIBSSH2_SOURCE": str(source_without("0033", tmp_path)),
            "HUSSH_CACHE": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "stack-buffer-overflow" in done.stderr
