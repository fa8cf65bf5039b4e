"""The host key that a user's function gets to decide about: ``host_key_policy=`` as a callable.

`host_key_check.py` of `_protocol` makes it. Pure data.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .known_hosts import Outcome, Verdict

__all__ = ["HostKey", "HostKeyCallback", "make_host_key", "get_verdict_status"]

_STATUS = {
    Outcome.ACCEPTED: "known",
    Outcome.CHANGED: "changed",
    Outcome.REVOKED: "revoked",
}


@dataclass(frozen=True)
class HostKey:
    """The key that a server has presented and proven to hold.

    Attributes:
        host: the name that was connected to.
        port: the TCP port.
        algorithm: the type of the key, such as ``"ssh-ed25519"``.
        fingerprint: ``SHA256:…``, as ``ssh-keygen -l`` prints it.
        status: what the known hosts say: ``"known"``, ``"unknown"``, ``"changed"`` or
            ``"revoked"``.
        hop: the hop that presents it, as ``user@host:port``.
        blob: the key itself (RFC 4253 section 6.6).
    """

    host: str
    port: int
    algorithm: str
    fingerprint: str
    status: str
    hop: str
    blob: bytes


#: Returns whether the key may be trusted; a coroutine function is for the async API.
HostKeyCallback = Callable[[HostKey], bool | Awaitable[bool]]


def make_host_key(verdict: Verdict, host: str, port: int, algorithm: str, hop: str) -> HostKey:
    """Return what the callable gets."""
    status = get_verdict_status(verdict)
    return HostKey(host, port, algorithm, verdict.fingerprint, status, hop, verdict.key_blob)


def get_verdict_status(verdict: Verdict) -> str:
    """Return the `HostKey.status` of a verdict."""
    return _STATUS.get(verdict.outcome, "unknown")
