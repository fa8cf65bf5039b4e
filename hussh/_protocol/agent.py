"""The client's side of the ssh-agent protocol (draft-ietf-sshm-ssh-agent): messages only.

The authentication of `_protocol` and the drivers use it. The drivers do the I/O: they connect to
`find_socket_path`, write a request, read until the buffer holds `frame_length` bytes, and give
those to the parser of the answer. Nothing here opens a socket, waits, or reads the environment by
itself.

An agent is a local program of the user's choice and not always OpenSSH's, so its answers are parsed
as a stranger's would be. Every fault of an answer raises `AuthenticationError`: the SSH connection
stays usable, and other credentials may still be tried.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from .._policy.keys.certificates import get_plain_algorithm
from .._policy.keys.public_key import PublicKey
from .._policy.wire import Reader, boolean, string, uint32
from ..errors import AuthenticationError, ProtocolError

__all__ = [
    "make_bind_request",
    "filter_identities",
    "frame_length",
    "is_bound",
    "parse_identities",
    "parse_signature",
    "request_identities",
    "sign_flags",
    "sign_request",
    "find_socket_path",
]

MAX_FRAME = 256 * 1024  # OpenSSH's own limit, for both directions

FAILURE = 5
SUCCESS = 6
REQUEST_IDENTITIES = 11
IDENTITIES_ANSWER = 12
SIGN_REQUEST = 13
SIGN_RESPONSE = 14
EXTENSION = 27

RSA_SHA2_256 = 2
RSA_SHA2_512 = 4

# 30 and 102 are what ssh.com's agents say; OpenSSH's client knows them too.
_FAILURES = frozenset((FAILURE, 30, 102))


def find_socket_path(
    agent: bool | str | os.PathLike[str] | None, environ: Mapping[str, str]
) -> str | None:
    """Return the socket to ask, or None for no agent.

    Args:
        agent: None and True mean the socket that ``SSH_AUTH_SOCK`` names, if it is set; False
            means none; a path means that socket, ``~`` expands.
        environ: usually ``os.environ``.

    Raises:
        TypeError: `agent` is something else, or a path of bytes.
    """
    if agent is None or agent is True:
        return environ.get("SSH_AUTH_SOCK") or None
    if agent is False:
        return None
    if isinstance(agent, str | os.PathLike):
        path = os.fspath(agent)
        if isinstance(path, str):
            return os.path.expanduser(path) or None
    raise TypeError("agent must be None, a bool or the path of the agent's socket")


def frame_length(buffer: bytes | bytearray | memoryview) -> int | None:
    """Return how many bytes of `buffer` the first answer takes, its length field included.

    The result is None while fewer than 4 bytes are there. It may be larger than `buffer`: then read
    on.

    Raises:
        AuthenticationError: the answer is empty or longer than 256 KiB.
    """
    if len(buffer) < 4:
        return None
    size = int.from_bytes(buffer[:4], "big")
    if not 1 <= size <= MAX_FRAME:
        raise AuthenticationError(f"ssh-agent announces an answer of {size} bytes")
    return 4 + size


def request_identities() -> bytes:
    """Return the request for the agent's public keys, framed."""
    return string(bytes((REQUEST_IDENTITIES,)))


def parse_identities(reply: bytes) -> list[PublicKey]:
    """Return the agent's public keys in its order; `reply` is one whole frame.

    A locked agent answers with an empty list. An entry whose blob names no algorithm is left out,
    because no server could be asked about it.

    Raises:
        AuthenticationError: the agent refuses, or the answer is malformed.
    """
    reader = _open(reply, IDENTITIES_ANSWER, "ssh-agent refuses to list its keys")
    identities = []
    try:
        for _ in range(reader.uint32()):
            blob, comment = reader.string(), reader.text()
            algorithm = _read_algorithm(blob)
            if algorithm:
                identities.append(PublicKey(algorithm, blob, comment))
    except ProtocolError as error:
        raise AuthenticationError("ssh-agent's list of keys is malformed") from error
    return identities


def make_bind_request(
    host_key: bytes, session_id: bytes, signature: bytes, *, is_forwarding: bool
) -> bytes:
    """Return the framed request ``session-bind@openssh.com``, which names the server."""
    fields = string(host_key) + string(session_id) + string(signature) + boolean(is_forwarding)
    return string(bytes((EXTENSION,)) + string(b"session-bind@openssh.com") + fields)


def is_bound(reply: bytes) -> bool:
    """Tell whether the agent took a `make_bind_request`; one that does not may hang up after it."""
    return reply[4:5] == bytes((SUCCESS,))


def sign_flags(algorithm: str) -> int:
    """Return the flags that ask for `algorithm`, one of RSA's (with SHA-2) or any other."""
    name = get_plain_algorithm(algorithm)
    return {"rsa-sha2-256": RSA_SHA2_256, "rsa-sha2-512": RSA_SHA2_512}.get(name, 0)


def sign_request(blob: bytes, data: bytes, flags: int) -> bytes:
    """Return the request to sign `data` with the key `blob`, framed.

    Raises:
        AuthenticationError: it is longer than an agent accepts, which only an absurd key or
            user name causes.
    """
    body = bytes((SIGN_REQUEST,)) + string(blob) + string(data) + uint32(flags)
    if len(body) > MAX_FRAME:
        raise AuthenticationError(f"a signature request of {len(body)} bytes is too long")
    return string(body)


def parse_signature(reply: bytes, algorithm: str | None = None) -> bytes:
    """Return the SSH signature blob (RFC 4253 section 6.6); `reply` is one whole frame.

    Args:
        reply: the answer to a `sign_request`.
        algorithm: the requested one. An old agent ignores the flags and signs with SHA-1, and a
            server would count that as a failed attempt.

    Raises:
        AuthenticationError: the agent refuses, answers with another algorithm, or the answer is
            malformed.
    """
    reader = _open(
        reply,
        SIGN_RESPONSE,
        "ssh-agent refuses to sign: it is locked, the key is gone, "
        "or its use was not confirmed (a prompt or a touch)",
    )
    try:
        signature = reader.string()
        inner = Reader(signature)
        used = inner.text()
        inner.string()
    except ProtocolError as error:
        raise AuthenticationError("ssh-agent's signature is malformed") from error
    if algorithm is not None and used != get_plain_algorithm(algorithm):
        raise AuthenticationError(
            f"ssh-agent signs with {used!r} where {algorithm} was asked for; it may be too old"
        )
    return signature


def filter_identities(identities: Iterable[PublicKey]) -> list[PublicKey]:
    """Return the keys worth offering, in the agent's order: no duplicates, none of DSA.

    Each offer costs one of the server's attempts (``MaxAuthTries``).
    """
    kept: dict[bytes, PublicKey] = {}
    for identity in identities:
        if get_plain_algorithm(identity.algorithm) != "ssh-dss":
            kept.setdefault(identity.blob, identity)
    return list(kept.values())


def _open(reply: bytes, expected: int, refusal: str) -> Reader:
    """Return a reader behind the type byte of an answer of the expected type."""
    if frame_length(reply) != len(reply):
        raise AuthenticationError("ssh-agent's answer is incomplete")
    kind = reply[4]
    if kind in _FAILURES:
        raise AuthenticationError(refusal)
    if kind != expected:
        raise AuthenticationError(f"ssh-agent answers with message {kind} instead of {expected}")
    return Reader(reply, 5)


def _read_algorithm(blob: bytes) -> str:
    try:
        return Reader(blob).string().decode("ascii")
    except (ProtocolError, UnicodeDecodeError):
        return ""
