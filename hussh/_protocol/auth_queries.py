"""Questions whether a server would take keys, asked at once (RFC 4252 section 7).

Signing with a key of the agent may need a touch, so the server is first asked about it.  To ask
about one key after the other costs a round trip for each that is refused.  `Login` asks about the
first few at once, behind ``none``, and reads the answers in that order, each when it comes to the
key.

Only OpenSSH is asked so.  Others lose requests that come before the answer to the one before
(asyncssh), or take them for a breach once ``none`` was enough (Go).  OpenSSH counts each refusal
among its MaxAuthTries, also those of keys behind the right one.  If it allows only one or two, it
ends the connection for them; `ended_it` tells, that server is remembered, and the second connection
asks about one key at a time.
"""

from __future__ import annotations

from collections import deque

from .._native.link import Link
from .._policy.options import Options
from .._policy.server_memory import ServerMemory
from .._policy.wire import Reader
from .auth_messages import PK_OK

__all__ = ["AHEAD_MAX", "QueriesAhead"]

#: Half of OpenSSH's MaxAuthTries: from there on it logs refusals at a higher level.
AHEAD_MAX = 3

#: The algorithm to sign with and the key.
Query = tuple[str, bytes]


class QueriesAhead:
    """What one login has asked ahead.

    Attributes:
        waiting: queries without an answer, in the order in which they were sent.
        has_one_that_would_do: whether the server would take a key, and has not refused its
            signature.
    """

    def __init__(self) -> None:
        self.waiting: deque[Query] = deque()
        self.has_one_that_would_do = False
        self._answers: dict[Query, bytes] = {}

    @staticmethod
    def may_ask(link: Link, options: Options, memory: ServerMemory) -> bool:
        """Tell whether the server bears more than one query at once."""
        # With compression nothing may be on the way when ``none`` is enough, see `try_none`.
        is_patient = link.is_openssh
        return is_patient and memory.bears_queries and not options.algorithms.compression

    def has(self, query: Query) -> bool:
        """Tell whether this was asked ahead."""
        return query in self._answers or query in self.waiting

    def keep_answer(self, answer: bytes) -> bytes:
        """Keep the answer to the oldest query, and return it."""
        self._answers[self.waiting.popleft()] = answer
        self.has_one_that_would_do |= answer[0] == PK_OK
        return answer

    def take(self, query: Query) -> Reader:
        """Return the answer to a query, once."""
        return Reader(self._answers.pop(query))

    def ended_it(self) -> bool:
        """Tell whether a connection that has ended was ended for these queries."""
        return self.has_one_that_would_do and bool(self.waiting or self._answers)
