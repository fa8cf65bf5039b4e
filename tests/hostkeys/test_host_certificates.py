"""Host certificates: a server is trusted for what an authority of the known hosts has signed.

The certificates are ssh-keygen's, the servers OpenSSH's.
"""

from __future__ import annotations

import subprocess
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection, HostKeyError
from hussh._policy.hostkeys.host_certificate import read_certificate
from hussh._policy.hostkeys.known_hosts import KnownHosts, Outcome, Verdict, make_host_key_error
from hussh._policy.keys.public_key import get_identity
from hussh.multi_conn import MultiConnection
from tests.auth.steps import SshdFactory
from tests.conformance.apis import APIS, Api
from tests.support.keys import Key, Keys
from tests.support.sshd import Sshd

Sign = Callable[..., Path]


@pytest.fixture
def sign(tmp_path: Path, keys: Keys) -> Sign:
    """Return a function that signs a public key; its result is the certificate's file."""
    tmp_path.chmod(0o755)
    count = 0

    def make(key: Key, authority: Key, *arguments: str, host: bool = True) -> Path:
        nonlocal count
        count += 1
        public = tmp_path / f"signed{count}.pub"
        public.write_text(key.public_line + "\n")
        command = ["ssh-keygen", "-q", "-s", str(authority.path), "-I", "test", *arguments]
        subprocess.run([*command, *(["-h"] if host else []), str(public)], check=True)
        return public.with_name(f"signed{count}-cert.pub")

    return make


@pytest.fixture
def certified(sshd_factory: SshdFactory, keys: Keys, sign: Sign) -> Callable[..., Sshd]:
    """Start servers that show a certificate for 127.0.0.1."""

    def start(name: str, kind: str = "ed25519", *arguments: str) -> Sshd:
        authority = keys.get(name="authority")
        signing = arguments or ("-n", "127.0.0.1")
        certificate = sign(keys.get(kind, name=f"host-{name}"), authority, *signing)
        return sshd_factory(
            name=name, host_keys=(kind,), options={"HostCertificate": str(certificate)}
        )

    return start


def authority_line(authority: Key, names: str = "*", marker: str = "@cert-authority") -> str:
    """Return the known_hosts line that trusts an authority, or revokes it."""
    return f"{marker} {names} {' '.join(authority.public_line.split()[:2])}\n"


def blob_of(certificate: Path) -> bytes:
    """Return the certificate as a server sends it."""
    return b64decode(certificate.read_text().split()[1])


def check(known: str, blob: bytes, policy: str = "strict", **more: Any) -> Verdict:
    """Return the verdict about a certificate that the host ``a.example`` shows on port 22."""
    return (
        KnownHosts.parse(known.encode(), "file")
        .look_up_host("a.example")
        .check(blob, policy, **more)
    )


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa"])
def test_every_kind_of_host_key(
    kind: str, certified: Callable[..., Sshd], keys: Keys, tmp_path: Path
) -> None:
    """A host key of each kind is trusted for its certificate, and re-exchanges go on with it."""
    server = certified("certified", kind)
    file = tmp_path / "known_hosts"
    file.write_text(authority_line(keys.get(name="authority"), "[127.0.0.1]:*"))
    options: dict[str, Any] = {"known_hosts": file, "host_key_policy": "strict"}
    key = server.alice.key.path
    with Connection(server.host, server.port, "alice", private_key=key, **options) as connection:
        assert connection._session is not None
        connection._session.link.rekey()
        assert connection.execute("echo in").stdout == "in\n"


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_on_every_hop(api: Api, certified: Callable[..., Sshd], keys: Keys, tmp_path: Path) -> None:
    """Bastion and target are each checked for their own name; one wrong name refuses that hop."""
    bastion, target = certified("bastion"), certified("target")
    wrong = certified("wrong", "ed25519", "-n", "elsewhere.example")
    file = tmp_path / "known_hosts"
    file.write_text(authority_line(keys.get(name="authority")))
    options: dict[str, Any] = {
        "username": "alice", "password": "x", "known_hosts": file, "host_key_policy": "strict",
        "private_key": keys.get(name="alice").path,
    }  # fmt: skip

    async def main() -> None:
        jump = f"{bastion.host}:{bastion.port}"
        session = await api.connect(target.host, target.port, proxy_jump=jump, **options)
        assert (await session.execute("echo in")).stdout == "in\n"
        await session.close()
        with pytest.raises(HostKeyError, match=r"certificate is for elsewhere\.example") as caught:
            await api.connect(wrong.host, wrong.port, proxy_jump=jump, **options)
        assert (caught.value.hop_index, caught.value.reason) == (1, "unknown")

    api.run(main)


def test_each_host_of_a_multi_connection(
    certified: Callable[..., Sshd], keys: Keys, tmp_path: Path
) -> None:
    """A batch behind one bastion trusts the host with a good certificate, and only that one."""
    bastion, good = certified("bastion"), certified("good")
    expired = certified("expired", "ed25519", "-n", "127.0.0.1", "-V", "-2d:-1d")
    wrong = certified("wrong", "ed25519", "-n", "elsewhere.example")
    file = tmp_path / "known_hosts"
    file.write_text(authority_line(keys.get(name="authority")))
    hosts = [{"host": server.host, "port": server.port} for server in (expired, good, wrong, good)]
    batch = MultiConnection.from_shared_auth(
        hosts, "alice", key_path=keys.get(name="alice").path, known_hosts=file,
        host_key_policy="strict", proxy_jump=f"{bastion.host}:{bastion.port}",
    )  # fmt: skip
    with batch:
        results = batch.execute("echo in").values()
    assert [result.stdout for result in results] == ["", "in\n", "", "in\n"]
    assert "expired" in results[0].stderr
    assert "is for elsewhere.example" in results[2].stderr
    assert [type(results[at].error) for at in (0, 2)] == [HostKeyError] * 2


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa"])
def test_every_kind_of_authority(kind: str, keys: Keys, sign: Sign) -> None:
    """Authorities of each kind vouch, also without principals; a damaged signature does not."""
    authority = keys.get(kind, name="authority")
    blob = blob_of(sign(keys.get(name="host-x"), authority))
    assert check(authority_line(authority), blob).outcome is Outcome.ACCEPTED
    certificate = read_certificate(blob)
    assert certificate is not None
    assert get_identity(certificate.key_blob) == get_identity(keys.get(name="host-x").blob)
    at = blob.index(b"test")  # the key id
    damaged = blob[:at] + b"TEST" + blob[at + 4 :]
    verdict = check(authority_line(authority), damaged)
    assert verdict.outcome is Outcome.UNKNOWN_REFUSED
    assert "not one of its authority" in str(make_host_key_error(verdict))


OBJECTIONS: list[tuple[list[str], bool, str]] = [
    (["-n", "b.example,c.example"], True, r"is for b\.example, c\.example and not for a\.example"),
    (["-n", "*.example"], True, "and not for"),  # no wildcards, as with ssh
    (["-n", "A.example"], True, "and not for"),
    (["-n", "a.example", "-V", "-2d:-1d"], True, "has expired at"),
    (["-n", "a.example", "-V", "+1d:+2d"], True, "is not valid before"),
    (["-n", "a.example", "-O", "critical:who@example=x"], True, "unknown critical options"),
    (["-n", "a.example"], False, "not one for hosts"),
]


@pytest.mark.parametrize(("arguments", "host", "text"), OBJECTIONS)
def test_objections(arguments: list[str], host: bool, text: str, keys: Keys, sign: Sign) -> None:
    """What speaks against a certificate leaves its key unknown, and stands in the error."""
    authority = keys.get(name="authority")
    blob = blob_of(sign(keys.get(name="host-x"), authority, *arguments, host=host))
    verdict = check(authority_line(authority), blob)
    assert verdict.outcome is Outcome.UNKNOWN_REFUSED
    with pytest.raises(HostKeyError, match=text):
        raise make_host_key_error(verdict)
    # As with ssh, the plain key in it counts as if it had come alone.
    plain = f"a.example {' '.join(keys.get(name='host-x').public_line.split()[:2])}\n"
    assert check(authority_line(authority) + plain, blob).outcome is Outcome.ACCEPTED
    other = plain.replace(plain.split()[2], keys.get(name="host-y").public_line.split()[1])
    assert check(authority_line(authority) + other, blob).outcome is Outcome.CHANGED


def test_signature_with_sha1(keys: Keys, sign: Sign) -> None:
    """An RSA authority that signs with SHA-1 vouches for nothing."""
    authority = keys.get("rsa", name="authority")
    blob = blob_of(sign(keys.get(name="host-x"), authority, "-t", "ssh-rsa"))
    assert check(authority_line(authority), blob).outcome is Outcome.UNKNOWN_REFUSED


@pytest.mark.parametrize("policy", ["accept-unknown", "accept-new", "strict"])
def test_revocation(policy: str, keys: Keys, sign: Sign) -> None:
    """A certificate of a revoked authority, or of a revoked key, is refused under every policy."""
    authority, key = keys.get(name="authority"), keys.get(name="host-x")
    blob = blob_of(sign(key, authority, "-n", "a.example"))
    for revoked in (authority, key):
        lines = authority_line(authority) + authority_line(revoked, marker="@revoked")
        assert check(lines, blob, policy).outcome is Outcome.REVOKED
    strange = authority_line(keys.get(name="other-authority"))
    verdict = check(strange, blob)
    assert (verdict.outcome, verdict.key_blob) == (Outcome.UNKNOWN_REFUSED, key.blob)
    assert "no" in str(make_host_key_error(verdict))


def test_plain_servers_are_not_asked(target: Sshd, keys: Keys, tmp_path: Path) -> None:
    """Beside an authority a server without a certificate shows its recorded key, and is trusted."""
    file = tmp_path / "known_hosts"
    file.write_text(authority_line(keys.get(name="authority")) + target.known_hosts_line())
    options: dict[str, Any] = {"known_hosts": file, "host_key_policy": "strict"}
    Connection(
        target.host, target.port, "alice", private_key=target.alice.key.path, **options
    ).close()


def test_every_cut_is_malformed(keys: Keys, sign: Sign) -> None:
    """No beginning of a certificate is one, and none raises."""
    authority = keys.get(name="authority")
    blob = blob_of(sign(keys.get(name="host-x"), authority, "-n", "a.example"))
    for size in range(len(blob)):
        assert read_certificate(blob[:size]) is None
    assert read_certificate(blob + b"\0") is None
