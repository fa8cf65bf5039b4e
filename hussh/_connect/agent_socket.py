"""Asks an ssh-agent over its Unix socket: a call that waits, and that can be abandoned.

`connect_attempt.py` hands this call to the drivers, which make it for a login. An agent may wait
for its user: for a touch of a security key, or for an answer to a prompt. So the logger
``hussh.agent`` gets what the agent is asked, at a higher level if a touch is likely. A driver that
abandons the call closes the socket, which ends the call in whatever thread it runs.
`_protocol/agent.py` has the messages; nothing here takes them apart.
"""

from __future__ import annotations

import contextlib
import socket
from time import monotonic

from .._protocol.agent import frame_length, is_bound
from .._protocol.core import RunBlocking
from .._runtime.poll_timeout import poll_timeout
from ..errors import AuthenticationError
from .log import logger
from .owned_sockets import Socket, open_socket
from .tcp import SocketStream

__all__ = ["ask_agent"]

_log = logger.getChild("agent")


def ask_agent(
    path: str, request: bytes, note: str, touch: bool = False, bind: bytes = b""
) -> RunBlocking:
    """Return the call that sends one framed request and returns the framed answer.

    `note` says in the log what is asked, and `touch` whether a security key is in play.

    The call raises OSError if the agent cannot be reached, TimeoutError if it does not answer in
    time, and AuthenticationError if its answer is malformed.
    """
    question = _Question(path, request, bind)

    def call(seconds_left: float | None) -> bytes:
        if touch:
            _log.info("%s: touch the security key if it waits for that", note)
        else:
            _log.debug("%s", note)
        return question.ask(seconds_left)

    return RunBlocking(call, abort=question.abort, in_caller=True)


class _Question:
    def __init__(self, path: str, request: bytes, bind: bytes) -> None:
        self._path = path
        self._request = request
        self._bind = bind
        self._socket: Socket | None = None
        self._aborted = False
        self._is_answered = False  # a request was, and no "I do not know that" of an older agent

    def ask(self, seconds_left: float | None) -> bytes:
        deadline = None if seconds_left is None else monotonic() + seconds_left
        if self._bind:
            try:
                return self._exchange([self._bind, self._request], deadline)
            except (AuthenticationError, BrokenPipeError, ConnectionResetError):
                if self._aborted or self._is_answered:
                    raise
        return self._exchange([self._request], deadline)

    def _exchange(self, requests: list[bytes], deadline: float | None) -> bytes:
        """Return the answer to the last of these requests, on a connection for them alone."""
        answer = b""
        stream = SocketStream()  # its finalizer closes what an interrupt leaves
        try:
            agent = open_socket(
                stream.opened, socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC
            )
            agent.settimeout(_count_seconds_left(deadline))
            agent.connect(self._path)
            self._socket = agent
            for request in requests:
                agent.settimeout(_count_seconds_left(deadline))
                agent.sendall(request)
                answer = self._frame(agent, deadline)
                self._is_answered = request is not self._bind or is_bound(answer)
        finally:
            stream.close()
        return answer

    def _frame(self, agent: Socket, deadline: float | None) -> bytes:
        answer = bytearray()
        while (size := frame_length(answer)) is None or len(answer) < size:
            part = self._receive(agent, deadline)
            if not part:
                raise AuthenticationError("ssh-agent closed the connection without an answer")
            answer += part
        return bytes(answer[:size])

    def _receive(self, agent: Socket, deadline: float | None) -> bytes:
        while not self._aborted:
            agent.settimeout(max(0.001, poll_timeout(deadline)))
            try:
                return agent.recv(65536)
            except TimeoutError:
                if deadline is not None and monotonic() >= deadline:
                    raise
        return b""

    def abort(self) -> None:
        """End the call, which another thread makes; what it returns is nobody's."""
        self._aborted = True
        agent = self._socket
        if agent is not None:
            with contextlib.suppress(OSError):  # closed meanwhile
                agent.shutdown(socket.SHUT_RDWR)


def _count_seconds_left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.001, deadline - monotonic())
