"""``private_key=`` in each form, and ``certificate=``: files, texts, objects, lists, agents.

The servers log each attempt, so that what was offered is counted and not believed.
"""

from __future__ import annotations

import subprocess
from base64 import b64encode, encodebytes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from hussh import Connection, KeyRefused, KeyUnreadable, PassphraseRequired
from hussh.multi_conn import MultiConnection
from tests.auth.steps import SshdFactory, attempts, fingerprints, login, refused
from tests.conformance.apis import APIS, Api
from tests.support.agent import SshAgent
from tests.support.keys import Keys
from tests.support.sshd import Sshd

ONE_ATTEMPT = [("publickey", "accepted")]
OF_AGENT = [("publickey", "postponed"), ("publickey", "accepted")]


def flat(text: str) -> str:
    """Return what a variable makes of a key: literal line breaks."""
    return text.replace("\n", "\\n")


MANGLED: dict[str, Callable[[str], Any]] = {
    "text": str,
    "bytes": str.encode,
    "literal line breaks": flat,
    "blanks": lambda text: text.replace("\n", " "),
    "CR LF": lambda text: text.replace("\n", "\r\n"),
    "BOM": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "base64": lambda text: b64encode(text.encode()).decode(),
    "base64 in lines": lambda text: encodebytes(text.encode()),
    "UTF-16 without BOM": lambda text: text.encode("utf-16-be"),
}


@pytest.mark.parametrize("how", MANGLED)
def test_text_of_a_key(how: str, target: Sshd, keys: Keys) -> None:
    """The text of a key logs in at the first attempt, also if a variable has flattened it."""
    for format, kind in (("OpenSSH", "ed25519"), ("PEM", "rsa"), ("PKCS8", "ecdsa-256")):
        key = keys.get(kind, name="alice", format=format)
        target.settle()
        login(target, private_key=MANGLED[how](key.text)).close()
        target.wait_for_log("^Accepted publickey")
        assert attempts(target) == ONE_ATTEMPT


@pytest.mark.parametrize("format", ["OpenSSH", "PEM", "PKCS8"])
def test_encrypted_text(format: str, target: Sshd, keys: Keys) -> None:
    """An encrypted key may be flattened, too; its passphrase goes to no server."""
    key = keys.get("rsa", name="alice", passphrase="words of mine", format=format)
    for text in (key.text, flat(key.text), key.text.replace("\n", " ")):
        login(target, private_key=text, password="words of mine").close()
    with pytest.raises(PassphraseRequired, match="given as text"):
        login(target, private_key=key.text)


def test_damaged_text_says_what_is_wrong(target: Sshd, keys: Keys, tmp_path: Path) -> None:
    """What cannot be mended is named, and the text of the key is in no error."""
    text = keys.get(name="alice").text
    body = text.splitlines()[2]
    cases = {
        text[: len(text) // 2]: "ends within the key",
        text.split("-----\n", 1)[1]: "holds no private key",
        "".join(text.split()): "blanks in its first line",
        text.splitlines()[1]: "neither a path nor the whole text",
        body: "neither a path nor the whole text",
        b64encode(text.encode()).decode()[:-5]: "neither a path nor the whole text",
        b64encode(text.encode()).decode()[7:]: "neither a path nor the whole text",
    }
    for damaged, words in cases.items():
        with pytest.raises(KeyUnreadable, match=words) as caught:
            login(target, private_key=damaged)
        assert body not in str(caught.value)
        assert b64encode(text.encode()).decode()[60:90] not in str(caught.value)
    file = tmp_path / "key"
    file.write_text("".join(text.split()))
    with pytest.raises(KeyUnreadable, match="has lost the blanks in its first line"):
        login(target, private_key=file)


def test_key_objects(target: Sshd, keys: Keys) -> None:
    """A private key of cryptography logs in; another object is a TypeError, before any I/O."""
    for kind in ("ed25519", "ecdsa-256", "rsa"):
        key = load_ssh_private_key(keys.get(kind, name="alice").path.read_bytes(), None)
        login(target, private_key=key).close()
    with pytest.raises(TypeError, match="private_key must be"):
        Connection("host", private_key=3)
    with pytest.raises(TypeError, match="private_key must be"):
        Connection("host", private_key=["/a", object()])
    with pytest.raises(KeyUnreadable, match="only Ed25519, ECDSA and RSA"):
        Connection("host", private_key=x25519.X25519PrivateKey.generate())


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_lists_on_every_hop(api: Api, bastion: Sshd, target: Sshd, keys: Keys) -> None:
    """The keys of a list are tried in order on each hop, and what cannot be read is passed over."""
    stranger = ed25519.Ed25519PrivateKey.generate()
    mine = ["/no/such/key", stranger, keys.get("ecdsa-256", name="alice").text]
    jump = f"{bastion.host}:{bastion.port}"

    async def main() -> None:
        session = await api.connect(
            target.host, target.port, username="alice", private_key=mine, proxy_jump=jump
        )
        assert (await session.execute("echo in")).stdout == "in\n"
        await session.close()

    api.run(main)
    for server in (bastion, target):
        server.wait_for_log("^Accepted publickey")
        assert attempts(server) == [("publickey", "failed"), ("publickey", "accepted")]


def test_list_without_a_good_key(target: Sshd, keys: Keys, tmp_path: Path) -> None:
    """Where all are refused the error names each; where none can be read, why not the first."""
    stranger = keys.get(name="stranger")
    error = refused(target, private_key=[tmp_path / "gone", stranger.path])
    assert isinstance(error, KeyRefused)
    assert error.tried == (
        f"key {tmp_path / 'gone'} (KeyUnreadable)",
        f"key {stranger.path} ({stranger.fingerprint})",
    )
    assert isinstance(refused(target, private_key=[tmp_path / "gone"]), KeyUnreadable)


@pytest.mark.parametrize("form", ["pub", "only pub", "list", "text"])
def test_this_key_of_the_agent(
    form: str, sshd_factory: SshdFactory, keys: Keys, agent: SshAgent, tmp_path: Path
) -> None:
    """Among many decoys a public key names the one key that is offered; no attempt fails."""
    server = sshd_factory(options={"MaxAuthTries": 3})
    for number in range(12):
        agent.add(keys.get(name=f"decoy{number}"))
    agent.add(server.alice.key)
    public = tmp_path / "id.pub"
    public.write_text(server.alice.key.public_line + "\n")
    given: Any = {"pub": public, "only pub": tmp_path / "id", "list": [public, "/nowhere"]}.get(
        form, public.read_text()
    )
    login(server, private_key=given).close()
    server.wait_for_log("^Accepted publickey")
    assert attempts(server) == OF_AGENT
    log = server.log_text()
    assert "Failed" not in log
    assert "maximum authentication attempts" not in log


def test_public_key_that_nobody_has(
    target: Sshd, keys: Keys, agent: SshAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the private half here or in the agent the error says so, with the fingerprint."""
    key = keys.get(name="alice")
    public = tmp_path / "id.pub"
    public.write_text(key.public_line + "\n")
    error = refused(target, private_key=public)
    assert isinstance(error, KeyUnreadable)
    assert f"the ssh-agent does not have it ({key.fingerprint})" in str(error)
    monkeypatch.delenv("SSH_AUTH_SOCK")
    assert "SSH_AUTH_SOCK is not set" in str(refused(target, private_key=public))
    assert "publickey" not in [method for method, _ in attempts(target)]


@pytest.mark.parametrize("format", ["OpenSSH", "PEM"])
def test_passphrase_that_only_the_agent_knows(
    format: str, target: Sshd, keys: Keys, agent: SshAgent, tmp_path: Path
) -> None:
    """An encrypted file without passphrase means its key in the agent, or an error that says so."""
    kind = "ecdsa-256"
    locked = keys.get(kind, name="alice", passphrase="words of mine", format=format)
    file = tmp_path / "key"
    file.write_text(locked.text)
    (tmp_path / "key.pub").write_text(locked.public_line + "\n")
    error = refused(target, private_key=file)
    assert isinstance(error, PassphraseRequired)
    assert f"the ssh-agent does not have it ({locked.fingerprint})" in str(error)
    agent.add(keys.get(name="decoy"))
    agent.add(keys.get(kind, name="alice"))
    login(target, private_key=file).close()
    target.wait_for_log("^Accepted publickey")
    assert attempts(target) == OF_AGENT


def test_each_host_of_a_multi_connection(target: Sshd, keys: Keys, agent: SshAgent) -> None:
    """A batch takes texts and keys of the agent as well."""
    agent.add(keys.get(name="alice"))
    public = keys.get(name="alice").path.with_suffix(".pub")
    hosts = [
        {"host": target.host, "port": target.port, "private_key": flat(target.alice.key.text)},
        {"host": target.host, "port": target.port, "private_key": str(public)},
    ]
    with MultiConnection.from_shared_auth(hosts, username="alice", known_hosts=()) as multi:
        assert [one.stdout for one in multi.execute("echo in").values()] == ["in\n"] * 2


@pytest.fixture
def trusting(sshd_factory: SshdFactory, keys: Keys, tmp_path: Path) -> Sshd:
    """Start a server that trusts an authority and knows no key of its own for alice."""
    tmp_path.chmod(0o755)
    trusted = tmp_path / "trusted.pub"
    trusted.write_text(keys.get(name="authority").public_line + "\n")
    server = sshd_factory(options={"TrustedUserCAKeys": str(trusted)})
    server.forget_keys(server.alice)
    return server


@pytest.fixture
def certificate(keys: Keys, tmp_path: Path) -> Path:
    """Sign a key of alice's, at a place that does not lie beside it."""
    public = tmp_path / "elsewhere.pub"
    public.write_text(keys.get("ecdsa-256", name="certified").public_line + "\n")
    command = ["ssh-keygen", "-q", "-s", str(keys.get(name="authority").path), "-I", "test"]
    subprocess.run([*command, "-n", "alice", str(public)], check=True)
    return tmp_path / "elsewhere-cert.pub"


def test_certificate_of_any_key(
    trusting: Sshd, certificate: Path, keys: Keys, agent: SshAgent
) -> None:
    """``certificate=`` goes with a file, a text, an agent's named key, and an agent's any key."""
    key = keys.get("ecdsa-256", name="certified")
    public = key.path.with_suffix(".pub")
    agent.add(key)
    ways: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
        ({"private_key": key.path}, ONE_ATTEMPT),
        ({"private_key": key.text}, ONE_ATTEMPT),
        ({"private_key": public}, OF_AGENT),
        ({}, OF_AGENT),
    ]
    for options, expected in ways:
        for given in (certificate, certificate.read_text()):
            trusting.settle()
            login(trusting, certificate=given, **options).close()
            trusting.wait_for_log("^Accepted publickey")
            assert attempts(trusting)[-len(expected) :] == expected


def test_certificate_that_is_none(target: Sshd, certificate: Path, keys: Keys) -> None:
    """A file without a certificate is an error that names it; one of another key is told of."""
    public = keys.get(name="alice").path.with_suffix(".pub")
    assert "holds no certificate" in str(refused(target, certificate=public))
    assert "certificate /gone does not exist" in str(refused(target, certificate="/gone"))
    error = refused(target, certificate=certificate, private_key=keys.get(name="stranger").path)
    assert "belongs to none of these keys" in str(error)
    assert fingerprints(target, "accepted") == []
