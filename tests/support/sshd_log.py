"""What an sshd log at LogLevel DEBUG1 tells: authentications, forwards, connections.

For ``tests/support/sshd.py`` and tests. Pure: text in, values out.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_AUTH = re.compile(
    r"^(Accepted|Failed|Partial|Postponed) (\S+) for (invalid user )?(.*) from (\S+) port (\d+) "
    r"ssh2(?:: (.*?))?(?: \[preauth\])?\r?$",
    re.MULTILINE,
)
_FORWARD = re.compile(
    r"server_request_direct_tcpip: originator (\S+) port (\d+), target (\S+) port (\d+)"
)
#: What sshd logs at the end of a connection; of one that says goodbye, two of them.
ENDED = "Connection closed by|Disconnected from|Received disconnect|Broken pipe"
_CONNECTION = re.compile(r"^Connection from \S+ port \d+ on \S+ port \d+", re.MULTILINE)


class Authentication(NamedTuple):
    """One request. ``outcome``: accepted, failed, partial (more is asked for) or postponed.

    A public key that was only offered, not signed with, is postponed when it would do and failed
    when not. A round of keyboard-interactive that asks something is postponed, too.
    """

    user: str
    method: str  # as logged: publickey, password, keyboard-interactive/pam, none …
    outcome: str
    detail: str  # for keys: "ED25519 SHA256:…"
    known_user: bool

    @property
    def accepted(self) -> bool:
        """Whether this request completed a login."""
        return self.outcome == "accepted"


class Forward(NamedTuple):
    """One direct-tcpip channel request (RFC 4254 section 7.2)."""

    originator: tuple[str, int]
    target: tuple[str, int]


def authentications(text: str) -> list[Authentication]:
    """Return the authentication requests of a log, in order."""
    return [
        Authentication(user, method, outcome.lower(), detail, not invalid)
        for outcome, method, invalid, user, _, _, detail in _AUTH.findall(text)
    ]


def forwards(text: str) -> list[Forward]:
    """Return the direct-tcpip requests of a log, in order."""
    return [
        Forward((originator, int(port)), (target, int(target_port)))
        for originator, port, target, target_port in _FORWARD.findall(text)
    ]


def connections(text: str) -> int:
    """Return the number of accepted TCP connections."""
    return len(_CONNECTION.findall(text))
