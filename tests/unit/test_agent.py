"""The agent's messages against a real ssh-agent, and against answers no agent should give."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hussh._policy.keys.key_files import load_private_key
from hussh._policy.keys.public_key import PublicKey
from hussh._policy.wire import string, uint32
from hussh._protocol import agent
from hussh.errors import AuthenticationError, HusshError

KINDS = {
    "ed25519": ("ed25519", "256", "ssh-ed25519"),
    "ecdsa": ("ecdsa", "256", "ecdsa-sha2-nistp256"),
    "rsa": ("rsa", "2048", "ssh-rsa"),
}
LOCK, UNLOCK, SUCCESS = 22, 23, 6

Ask = Callable[[bytes], bytes]


def run(*argv: str | Path, sock: Path | None = None) -> None:
    env = {**os.environ, "SSH_AUTH_SOCK": str(sock)}
    done = subprocess.run(argv, env=env, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(scope="session")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One unencrypted key of each kind."""
    folder = tmp_path_factory.mktemp("agent-keys")
    for name, (type_, bits, _) in KINDS.items():
        path = folder / name
        run("ssh-keygen", "-q", "-t", type_, "-b", bits, "-C", f"my {name}", "-N", "", "-f", path)
    return {name: folder / name for name in KINDS}


@pytest.fixture
def sock(tmp_path: Path) -> Iterator[Path]:
    """The socket of a real ssh-agent, which refuses every confirmation."""
    path = tmp_path / "agent"
    env = {**os.environ, "SSH_ASKPASS": shutil.which("false") or "", "DISPLAY": ":none"}
    with subprocess.Popen(
        ["ssh-agent", "-D", "-a", path],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            assert process.stdout is not None
            # It prints this line when it listens.
            assert b"SSH_AUTH_SOCK" in process.stdout.readline()
            yield path
        finally:
            process.terminate()


@pytest.fixture
def ask(sock: Path) -> Iterator[Ask]:
    """Send a request, return the one framed answer: what a driver does."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(30)
        stream.connect(str(sock))

        def exchange(request: bytes) -> bytes:
            stream.sendall(request)
            buffer = b""
            while (length := agent.frame_length(buffer)) is None or len(buffer) < length:
                received = stream.recv(7)
                assert received, "the agent closed the connection"
                buffer += received
            assert len(buffer) == length
            return buffer

        yield exchange


def blob_of(path: Path) -> bytes:
    return b64decode(Path(f"{path}.pub").read_text().split()[1])


# --- A real agent ------------------------------------------------------------


def test_the_keys_are_listed_in_order(ask: Ask, sock: Path, key_files: dict[str, Path]) -> None:
    """Every key comes with its algorithm, blob and comment, in the order of adding."""
    assert agent.parse_identities(ask(agent.request_identities())) == []
    for path in key_files.values():
        run("ssh-add", "-q", path, sock=sock)
    assert agent.parse_identities(ask(agent.request_identities())) == [
        PublicKey(KINDS[name][2], blob_of(path), f"my {name}") for name, path in key_files.items()
    ]


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [("ed25519", "ssh-ed25519"), ("rsa", "rsa-sha2-256"), ("rsa", "rsa-sha2-512")],
)
def test_the_agent_and_the_key_file_sign_alike(
    ask: Ask, sock: Path, key_files: dict[str, Path], name: str, algorithm: str
) -> None:
    """Deterministic signatures agree byte for byte with those that we make ourselves."""
    key = load_private_key(key_files[name])
    run("ssh-add", "-q", key_files[name], sock=sock)
    flags = agent.sign_flags(algorithm)
    reply = ask(agent.sign_request(key.public.blob, b"data", flags))
    assert agent.parse_signature(reply, algorithm) == key.sign(b"data", algorithm)


def test_an_ecdsa_signature_is_accepted(ask: Ask, sock: Path, key_files: dict[str, Path]) -> None:
    """ECDSA signatures differ each time, so only their frame is looked at here."""
    run("ssh-add", "-q", key_files["ecdsa"], sock=sock)
    reply = ask(agent.sign_request(blob_of(key_files["ecdsa"]), b"data", 0))
    signature = agent.parse_signature(reply, "ecdsa-sha2-nistp256")
    assert signature.startswith(string(b"ecdsa-sha2-nistp256"))


def test_a_certificate_signs_under_its_key_s_algorithm(
    ask: Ask, sock: Path, key_files: dict[str, Path], tmp_path: Path
) -> None:
    """A certificate is listed beside its key, and its signature names the plain algorithm."""
    path = tmp_path / "rsa"
    shutil.copy(key_files["rsa"], path)
    shutil.copy(f"{key_files['rsa']}.pub", f"{path}.pub")
    run("ssh-keygen", "-q", "-s", key_files["ed25519"], "-I", "me", "-n", "me", f"{path}.pub")
    run("ssh-add", "-q", path, sock=sock)
    plain, certificate = agent.parse_identities(ask(agent.request_identities()))
    assert plain.algorithm == "ssh-rsa"
    assert certificate.algorithm == "ssh-rsa-cert-v01@openssh.com"
    algorithm = "rsa-sha2-512-cert-v01@openssh.com"
    reply = ask(agent.sign_request(certificate.blob, b"data", agent.sign_flags(algorithm)))
    assert agent.parse_signature(reply, algorithm).startswith(string(b"rsa-sha2-512"))


def test_a_key_that_is_gone_is_refused(ask: Ask, key_files: dict[str, Path]) -> None:
    """Signing with a key that the agent does not hold is an error with a clear text."""
    reply = ask(agent.sign_request(blob_of(key_files["rsa"]), b"data", 0))
    with pytest.raises(AuthenticationError, match="refuses to sign: it is locked, the key is gone"):
        agent.parse_signature(reply)


def test_a_locked_agent_lists_and_signs_nothing(
    ask: Ask, sock: Path, key_files: dict[str, Path]
) -> None:
    """A locked agent shows no key and refuses to sign; unlocked, it has its keys again."""
    run("ssh-add", "-q", key_files["ed25519"], sock=sock)
    request = agent.sign_request(blob_of(key_files["ed25519"]), b"data", 0)
    assert ask(string(bytes([LOCK]) + string(b"word")))[4] == SUCCESS
    assert agent.parse_identities(ask(agent.request_identities())) == []
    with pytest.raises(AuthenticationError, match="it is locked"):
        agent.parse_signature(ask(request))
    assert ask(string(bytes([UNLOCK]) + string(b"word")))[4] == SUCCESS
    assert agent.parse_signature(ask(request), "ssh-ed25519")


def test_a_declined_confirmation_is_refused(
    ask: Ask, sock: Path, key_files: dict[str, Path]
) -> None:
    """A key added with `ssh-add -c` whose prompt is declined does not sign."""
    run("ssh-add", "-q", "-c", key_files["ed25519"], sock=sock)
    reply = ask(agent.sign_request(blob_of(key_files["ed25519"]), b"data", 0))
    with pytest.raises(AuthenticationError, match="not confirmed"):
        agent.parse_signature(reply)


# --- Answers that no agent should give ---------------------------------------


def answer(kind: int, body: bytes = b"") -> bytes:
    return string(bytes([kind]) + body)


def test_an_answer_is_measured_from_its_first_bytes() -> None:
    """The length is unknown before four bytes are there, and then never changes."""
    frame = answer(agent.SIGN_RESPONSE, bytes(10))
    for count in range(len(frame) + 3):
        expected = None if count < 4 else len(frame)
        assert agent.frame_length((frame + b"next")[:count]) == expected


@pytest.mark.parametrize("size", [0, agent.MAX_FRAME + 1, 2**32 - 1])
def test_an_absurd_length_is_an_error(size: int) -> None:
    """An empty or endless answer is refused before anything is read for it."""
    with pytest.raises(AuthenticationError, match=f"answer of {size} bytes"):
        agent.frame_length(uint32(size))


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (answer(agent.FAILURE), "refuses to list"),
        (answer(102), "refuses to list"),
        (answer(agent.SIGN_RESPONSE), "message 14 instead of 12"),
        (answer(agent.IDENTITIES_ANSWER), "malformed"),
        (answer(agent.IDENTITIES_ANSWER, uint32(2**32 - 1)), "malformed"),
        (answer(agent.IDENTITIES_ANSWER, uint32(1) + uint32(99)), "malformed"),
        (answer(agent.IDENTITIES_ANSWER, uint32(0))[:-1], "incomplete"),
        (b"", "incomplete"),
    ],
)
def test_a_bad_list_is_an_error(reply: bytes, text: str) -> None:
    """Refused, unexpected, lying or cut lists each have their text."""
    with pytest.raises(AuthenticationError, match=text):
        agent.parse_identities(reply)


def test_a_nameless_key_is_left_out() -> None:
    """An entry without a readable algorithm does not spoil the others."""
    entries = [b"", b"\0", string(b"\xff"), string(b"ssh-ed25519") + string(bytes(32))]
    body = uint32(4) + b"".join(string(blob) + string(b"\xff") for blob in entries)
    (identity,) = agent.parse_identities(answer(agent.IDENTITIES_ANSWER, body))
    assert (identity.algorithm, identity.comment) == ("ssh-ed25519", "�")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "malformed"),
        (string(b""), "malformed"),
        (string(string(b"ssh-rsa")), "malformed"),
        (string(string(b"ssh-rsa") + string(b"s")), "signs with 'ssh-rsa' where rsa-sha2-512"),
    ],
)
def test_a_bad_signature_is_an_error(body: bytes, text: str) -> None:
    """A broken signature, or an old agent's SHA-1, is not sent to a server."""
    with pytest.raises(AuthenticationError, match=text):
        agent.parse_signature(answer(agent.SIGN_RESPONSE, body), "rsa-sha2-512")


def test_a_security_key_s_signature_is_kept_whole() -> None:
    """FIDO signatures carry flags and a counter after the two strings."""
    signature = string(b"sk-ssh-ed25519@openssh.com") + string(bytes(64)) + b"\1" + uint32(9)
    reply = answer(agent.SIGN_RESPONSE, string(signature))
    assert agent.parse_signature(reply, "sk-ssh-ed25519@openssh.com") == signature


def test_a_request_too_long_for_an_agent_is_an_error() -> None:
    """What an agent would drop silently is refused here."""
    with pytest.raises(AuthenticationError, match="too long"):
        agent.sign_request(b"blob", bytes(agent.MAX_FRAME), 0)


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from([agent.FAILURE, agent.IDENTITIES_ANSWER, agent.SIGN_RESPONSE, 0]),
    body=st.binary(max_size=60),
    framed=st.booleans(),
)
def test_garbage_is_our_error(kind: int, body: bytes, framed: bool) -> None:
    """Any bytes in place of an answer are a result or a HusshError."""
    reply = answer(kind, body) if framed else body
    for parse in (agent.parse_identities, agent.parse_signature):
        with contextlib.suppress(HusshError):
            assert isinstance(parse(reply), list | bytes)


# --- Choices -----------------------------------------------------------------


def test_the_socket_is_the_argument_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None takes SSH_AUTH_SOCK, False nothing, a path itself."""
    monkeypatch.setenv("HOME", str(tmp_path))
    environ = {"SSH_AUTH_SOCK": "/env"}
    assert agent.find_socket_path(None, environ) == "/env"
    assert agent.find_socket_path(True, environ) == "/env"
    assert agent.find_socket_path(None, {}) is None
    assert agent.find_socket_path(None, {"SSH_AUTH_SOCK": ""}) is None
    assert agent.find_socket_path(False, environ) is None
    assert agent.find_socket_path("~/mine", environ) == f"{tmp_path}/mine"
    assert agent.find_socket_path(tmp_path, environ) == str(tmp_path)
    for wrong in (1, b"/bytes"):
        with pytest.raises(TypeError, match="agent must be"):
            agent.find_socket_path(wrong, environ)  # type: ignore[arg-type]


def test_only_keys_worth_an_attempt_are_offered() -> None:
    """Duplicates and DSA go, the order stays."""
    a, b, c = (PublicKey("ssh-ed25519", bytes([i]), "") for i in range(3))
    dsa = PublicKey("ssh-dss", b"dsa", "")
    assert agent.filter_identities([dsa, a, b, a, c]) == [a, b, c]
