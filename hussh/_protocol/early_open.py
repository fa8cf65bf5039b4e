"""Channels that are opened behind a login request, before its answer: that saves a round trip.

RFC 4252 section 5.1 lets requests of the next service follow the last login request at once.  If
the login is refused, OpenSSH answers UNIMPLEMENTED to the open and goes on; section 6 lets other
servers disconnect, and dropbear and Erlang do.  So a channel is opened early only

- behind the last credential that there is, and never behind keyboard-interactive;
- not where compression begins with the answer (zlib@openssh.com);
- over a stream that the user gave, which cannot be opened again, at OpenSSH only;
- at servers that are no OpenSSH, only a session, only where that user has logged in by that method
  alone before, in this process, and no other request would follow a refusal.

Some servers (those that look at a login in the background) end the connection though the login
would have succeeded.  Such a server is remembered and `ended_it` tells that one may connect once
more; not where it has refused anything, or a user was asked for something.

Others do not look at what came along with the login request until more comes (tinyssh), or never.
So a server that is no OpenSSH is asked something once it has granted the login.  If the answer
comes before that to the open, the session is `ChannelState.UNHEARD`, and another one is opened.

`bring_up` makes one `EarlyOpen` for each hop, the login calls `send`.
"""

from __future__ import annotations

from collections.abc import Callable

from .._native.channel import Channel
from .._native.link import Link
from .._policy.options import Options
from .._policy.server_memory import ServerMemory
from .._policy.wire import KEEPALIVE
from .auth_queries import QueriesAhead
from .spare_session import SpareSession

__all__ = ["EarlyOpen"]


class EarlyOpen:
    """What is opened behind the login of one hop.

    Args:
        open_way: opens the channel to the next hop; None at the target.
        opens_session: whether to open a session, for whatever is run first.

    Attributes:
        channel: what `open_way` opened, or None.
        asked_user: whether somebody answered a question or touched a key for this login.
        refused: whether the server has refused any request of this login.
        queries: the other thing that a login sends early.
        ended_it: whether the connection ended for what was opened, as far as one can tell.
    """

    def __init__(
        self,
        options: Options,
        memory: ServerMemory,
        open_way: Callable[[Link], Channel] | None = None,
        *,
        opens_session: bool = False,
    ) -> None:
        self._options = options
        self._open_way = open_way
        self._opens_session = opens_session
        self._sent = False
        self.memory = memory
        self.channel: Channel | None = None
        self.asked_user = self.refused = self.ended_it = False
        self.queries = QueriesAhead()

    def send(self, link: Link, method: str, *, no_more_requests: bool) -> None:
        """Open what is wanted, where the server bears it; right after the login request.

        Args:
            method: that of the request, which holds the last credential.
            no_more_requests: whether nothing will be sent after a refusal.
        """
        options, memory = self._options, self.memory
        if self._sent or not memory.bears_early or options.algorithms.compression:
            return
        is_patient = link.is_openssh
        was_enough = no_more_requests and (options.username, method) in memory.logins
        if not is_patient and not (was_enough and options.settings["stream"] is None):
            return
        if self._open_way is not None:
            if is_patient:  # at others an answer that takes its time looks like none
                self.channel = self._open_way(link)
                self._sent = True
        elif self._opens_session and (is_patient or memory.gives_sessions):
            self._sent = SpareSession.of(link).open(link)

    def follow_grant(self, link: Link) -> None:
        """Make sure that the server looks at what was opened; right after the login is granted."""
        if self._sent and not link.is_openssh:
            link.send(KEEPALIVE)

    def note_failure(self, link: Link) -> None:
        """Note that the login has failed, and find out whether what was sent early is to blame."""
        if link.dead and self.queries.ended_it():
            self.memory.bears_queries = False
            self.ended_it = True
            return
        if self._sent and link.dead:
            self.memory.bears_early = False
            self.ended_it = not self.refused

    def was_refused_early(self) -> bool:
        """Tell whether the login was refused while a channel was being opened behind it."""
        return self._sent and self.refused

    def take(self) -> Channel | None:
        """Hand over the channel to the next hop; the caller frees it."""
        channel, self.channel = self.channel, None
        return channel

    def drop(self) -> None:
        """Free what nobody took."""
        channel = self.take()
        if channel is not None and not channel.link.freed:
            channel.free()
