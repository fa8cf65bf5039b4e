"""Lends the ssh-agent to one session of a server (``forward_agent=``), and to no other.

`execution.py` and `host_group.py` make a loan and pass it to the operation that opens the session's
channel. From then on until that channel ends, channels to the agent that the server opens on this
connection are accepted (`incoming.Incoming`); all others are refused. A person who controls the
server can use the agent meanwhile. Each connection to the agent begins with
``session-bind@openssh.com``. So the agent knows which server borrows it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from .._native.channel import Channel
from .._native.local_end import LocalEnd
from .._policy.options import Options
from .._protocol.agent import find_socket_path, frame_length, make_bind_request
from .._protocol.core import Op, RunBlocking, WaitFor
from .._protocol.tunnel import CONNECT_FAILED, SHORTAGE, Offer, accept_offer, refuse_offer
from .._runtime.background import Task
from ..errors import AuthenticationError, HusshError
from .hop import Hop
from .incoming import Incoming

__all__ = ["AgentLoan", "ForwardAgent", "check_forward_agent", "lend_agent"]

_log = logging.getLogger("hussh.agent")

ForwardAgent = bool | str | os.PathLike[str] | None

#: Connections to the agent at once that one session gets; a server could open any number.
MOST = 100
#: Seconds for the agent to answer, which is a program of this machine.
AGENT_SECONDS = 10.0


def check_forward_agent(value: object) -> None:
    """Raise TypeError if a value is no `ForwardAgent`."""
    if value is not None and not isinstance(value, bool | str | os.PathLike):
        raise TypeError("forward_agent must be a bool or the path of the agent's socket")


def lend_agent(
    hop: Hop[Any], options: Options, forward_agent: ForwardAgent
) -> Callable[[Channel], None] | None:
    """Return what lends the agent to a channel; None if nothing is to be lent.

    `forward_agent` is None if the caller does not say; then a ``config=`` may.

    Raises:
        TypeError: it is neither a bool nor a path.
        ValueError: there is no agent to lend.
    """
    check_forward_agent(forward_agent)
    configured = options.configured.forward_agent if forward_agent is None else False
    if not (forward_agent or configured):
        return None
    if configured:
        own = find_socket_path(options.settings["agent"], os.environ)
        path = own if configured is True else os.path.expanduser(configured)
        return AgentLoan(hop, path).begin if path else None  # as ssh: without a word
    agent = options.settings["agent"] if forward_agent is True else forward_agent
    path = find_socket_path(agent, os.environ)
    if not path:
        raise ValueError("forward_agent=True, but there is no ssh-agent: SSH_AUTH_SOCK is not set")
    return AgentLoan(hop, path).begin


class AgentLoan:
    """The agent, lent to one session."""

    def __init__(self, hop: Hop[Any], path: str) -> None:
        self._hop = hop
        self._link = hop.link
        self._path = path
        self._channel: weakref.ref[Channel] | None = None
        self._tasks: set[Task] = set()

    def begin(self, channel: Channel) -> None:
        """Lend it to this session's channel, which is open; with the tree's lock held."""
        if self._hop.incoming is None:
            self._hop.incoming = Incoming(self._link, self._hop.driver.start)
        self._channel = weakref.ref(channel)
        channel.at_end = self.end
        self._hop.incoming.lend(self)
        # No answer is asked for: a server that forbids it lets the command run all the same.
        channel.request(b"auth-agent-req@openssh.com")

    @property
    def is_open(self) -> bool:
        """Whether the session still runs."""
        channel = None if self._channel is None else self._channel()
        return channel is not None and channel.is_open

    def end(self) -> None:
        """End what the session, which is over, has of the agent; with the tree's lock held."""
        self._channel = None
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            self._hop.driver.cancel(task)

    def carry(self, offer: Offer) -> None:
        """Connect a channel of the server with the agent."""
        self._tasks = {task for task in self._tasks if not task.is_over}
        if len(self._tasks) >= MOST:
            refuse_offer(self._link, offer, SHORTAGE)
            return
        never_ran = partial(self._refuse, offer)
        self._tasks.add(self._hop.driver.start(self._carry(offer), never_ran))

    def _refuse(self, offer: Offer) -> None:
        if not (self._link.dead or self._link.deferred_frees.abandoned):
            with contextlib.suppress(HusshError):
                refuse_offer(self._link, offer, CONNECT_FAILED)

    def _carry(self, offer: Offer) -> Op[None]:
        link = self._link
        bind = b""
        if link.hostkey_signature:
            bind = make_bind_request(
                link.hostkey, link.session_id, link.hostkey_signature, is_forwarding=True
            )
        endpoint: LocalEnd | None = None
        channel: Channel | None = None
        sock: socket.socket | None = None
        try:
            _log.info("[%s] uses the ssh-agent that was lent to it", self._hop.hop)
            sock = yield RunBlocking(lambda _: _connect(self._path, bind))
            endpoint = self._hop.driver.watch(sock.fileno())
            channel = accept_offer(link, offer)
            endpoint.join(channel)
            while not endpoint.get_info().over:
                yield WaitFor(endpoint)
        except (HusshError, OSError) as error:
            _log.warning("[%s] cannot use the ssh-agent: %s", self._hop.hop, error)
        finally:
            if endpoint is not None:
                endpoint.free()
            if channel is not None:
                channel.free()
            else:
                self._refuse(offer)
            if sock is not None:
                sock.close()


def _connect(path: str, bind: bytes) -> socket.socket:
    """Return a connection to the agent, which was told whom it is for, if it could be told."""
    if bind:
        sock = _open(path)
        try:
            sock.sendall(bind)
            answer = bytearray()
            while (size := frame_length(answer)) is None or len(answer) < size:
                part = sock.recv(4096)
                if not part:
                    raise ConnectionResetError
                answer += part
        except (ConnectionError, AuthenticationError):
            sock.close()  # an agent that hangs up on what it does not know
        except BaseException:
            sock.close()
            raise
        else:
            # Also where it refused: OpenSSH's agent then still knows that the user is a remote one,
            # who may not load providers of keys.
            sock.setblocking(False)
            return sock
    sock = _open(path)
    sock.setblocking(False)
    return sock


def _open(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(AGENT_SECONDS)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock
