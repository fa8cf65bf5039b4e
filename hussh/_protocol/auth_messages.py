"""What logins send and receive: requests, results, and the call that asks the agent.

`auth_methods` and its neighbours use it. Nothing here keeps anything or waits.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import Protocol

from .._policy.wire import boolean, string
from .core import RunBlocking

__all__ = ["FAILURE", "INFO_REQUEST", "INFO_RESPONSE", "PASSWORD_CHANGE", "PK_OK", "SUCCESS",
           "AskAgent", "Outcome", "make_key_request", "request_head"]  # fmt: skip

REQUEST, FAILURE, SUCCESS = 50, 51, 52
INFO_REQUEST = PK_OK = PASSWORD_CHANGE = 60  # what 60 means depends on the method
INFO_RESPONSE = 61


class AskAgent(Protocol):
    """Makes the call that sends one framed request to the agent at a socket path.

    Its result is the framed answer. `note` says in the log what is asked. `touch` says whether the
    agent may have to wait for a touch.
    `bind` is sent before, whatever the agent says to it (`agent.make_bind_request`).
    """

    def __call__(
        self, path: str, request: bytes, note: str, touch: bool = False, bind: bytes = b""
    ) -> RunBlocking: ...


class Outcome(Enum):
    """The result of an attempt, in the words of a story."""

    SUCCESS = "accepted"
    PARTIAL = "accepted, but the server wants more"
    FAILURE = "refused"


@lru_cache(maxsize=64)
def request_head(username: str, method: str) -> bytes:
    """Return the beginning of a request (RFC 4252 section 5)."""
    names = (username, "ssh-connection", method)
    return bytes((REQUEST,)) + b"".join([string(name.encode()) for name in names])


@lru_cache(maxsize=64)
def make_key_request(username: str, algorithm: str, blob: bytes, signed: bool) -> bytes:
    """Return a request with a key, up to the signature (RFC 4252 section 7)."""
    fields = boolean(signed) + string(algorithm.encode()) + string(blob)
    return request_head(username, "publickey") + fields
