"""Waits for the server's answer to the open of a channel (RFC 4254 section 5.1).

`channel` and `spare_session` use it, and judge the answer; nothing here does.
"""

from __future__ import annotations

from .._native.channel import Channel
from .._native.constants import ChannelState
from .._native.link import Link
from .core import Op, WaitFor

__all__ = ["wait_until_answered"]


def wait_until_answered(link: Link, channel: Channel) -> Op[Channel]:
    """Wait for the answer; return the channel, which is freed if this raises.

    Raises:
        HusshError: the link died meanwhile.
    """
    try:
        while channel.get_info().state == ChannelState.OPENING:
            yield WaitFor(channel)
        if channel.get_info().state == ChannelState.DEAD:
            raise link.get_death()
    except BaseException:
        channel.free()
        raise
    return channel
