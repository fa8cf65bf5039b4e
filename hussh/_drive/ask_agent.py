"""One question to an ssh-agent over its Unix socket, blocking."""

from __future__ import annotations

import socket
from time import monotonic

from .._protocol.agent import frame_length
from ..errors import AuthenticationError

__all__ = ["ask_agent"]


def ask_agent(path: str, request: bytes, seconds_left: float | None) -> bytes:
    """Send one framed request, return the framed answer.

    Raises:
        OSError: the agent cannot be reached; TimeoutError: it did not answer in time.
        AuthenticationError: its answer is no answer.
    """
    deadline = None if seconds_left is None else monotonic() + seconds_left
    answer = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
        agent.settimeout(seconds_left)
        agent.connect(path)
        agent.sendall(request)
        while (size := frame_length(answer)) is None or len(answer) < size:
            if deadline is not None:
                agent.settimeout(max(0.001, deadline - monotonic()))
            part = agent.recv(65536)
            if not part:
                raise AuthenticationError("ssh-agent closed the connection without an answer")
            answer += part
    return bytes(answer[:size])
