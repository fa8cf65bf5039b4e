"""`SpareSession`: a session channel that nobody needs yet, so that the next waits for no open.

It is opened behind a login (`early_open`), and beside the commands of a connection that has run one
before. `open_session` takes it first, so that it never keeps anybody from a session: it counts as
one of the server's MaxSessions, but only until the next session is wanted. A server that refuses
one, or closes it while nobody uses it (ChannelTimeout of sshd, dropbear), gets no other on that
connection. `spare_channel=False` of a connection switches all of this off.
"""

from __future__ import annotations

from .._native.channel import Channel
from .._native.constants import ChannelState
from .._native.link import Link
from .._policy.server_memory import ServerMemory
from .core import Op
from .open_answer import wait_until_answered
from .session_slots import SessionSlots

__all__ = ["SpareSession"]

#: Bytes that the server may send ahead on it; its user may let it send more.
WINDOW = 2 * 1024 * 1024
#: From this command of a connection on, one is opened beside each if there is none.
FROM_COMMAND = 2


class SpareSession:
    """The spare session of one link. It holds no link, because the link holds it.

    Attributes:
        memory: what this process has seen of the server.
        is_allowed: whether one may be opened.
    """

    def __init__(self) -> None:
        self.memory = ServerMemory()
        self.is_allowed = False
        self._commands = 0
        self._unowned: object | None = None

    @classmethod
    def of(cls, link: Link) -> SpareSession:
        """Return that of a link."""
        spare: SpareSession | None = link.attached.get(cls)
        if spare is None:
            spare = link.attached[cls] = cls()
        return spare

    @property
    def is_there(self) -> bool:
        """Whether one was asked for and is not taken."""
        return self._unowned is not None

    def open(self, link: Link) -> bool:
        """Ask for one, unless there is one; return whether that was done."""
        if self._unowned is not None or not self.is_allowed:
            return False
        self._unowned = link.open_spare(WINDOW)
        return self._unowned is not None

    def open_beside(self, link: Link, slots: SessionSlots) -> None:
        """Ask for one beside a command that has just been sent, where that is of use."""
        self._commands += 1
        if self._commands >= FROM_COMMAND and self.memory.bears_spare and not slots.is_full:
            self.open(link)

    def take_open(self, link: Link) -> Channel | None:
        """Return the session if the server has given it by now; see `take`."""
        unowned = self._unowned
        if unowned is None or not link.is_open(unowned):
            return None
        self._unowned = None
        return Channel.of_spare(link, unowned)

    def take(self, link: Link) -> Op[Channel | None]:
        """Wait until the server has given the session; return None if there is none to be had.

        It has `WINDOW`. Its user may widen that once the server has answered a request: npm's ssh2
        forgets credit that comes before.
        """
        channel = self.take_open(link)
        if channel is not None:
            return channel
        unowned, self._unowned = self._unowned, None
        if unowned is None:
            return None
        channel = yield from wait_until_answered(link, Channel.of_spare(link, unowned))
        state = channel.get_info().state
        if state == ChannelState.OPEN and not channel.get_info().closed:
            return channel
        if state == ChannelState.UNHEARD:
            if not link.is_openssh:  # which does not look at it after a refusal only
                self.memory.bears_early = False
        else:
            self.is_allowed = False
            if state == ChannelState.REFUSED:
                self.memory.bears_spare = False
        channel.free()
        return None
