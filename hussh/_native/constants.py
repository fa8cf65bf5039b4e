"""The numbers of link.h and libssh2 that Python reads: phases, states, kinds of algorithms, flags.

All code of `_protocol` and `_runtime` that looks at a link imports it. It calls C only to ask what
the processor can do.
"""

from __future__ import annotations

from enum import IntEnum

from ..errors import Phase
from ._libssh2 import lib

__all__ = [
    "EVENTS",
    "FAST_AES",
    "FULL",
    "KEX_FAILURES",
    "MORE",
    "PHASES",
    "WANT_WRITE",
    "WORK",
    "ChannelState",
    "Death",
    "Method",
]


#: How far a link has come, as link.h numbers it; keys are exchanged before HOSTKEY.
PHASES = {
    lib.HUSSH_BANNER: Phase.BANNER,
    lib.HUSSH_KEX: Phase.KEX,
    lib.HUSSH_HOSTKEY: Phase.HOSTKEY,
    lib.HUSSH_AUTH: Phase.AUTH,
    lib.HUSSH_OPEN: Phase.CHANNEL,
}


class Death(IntEnum):
    """Why a link is dead."""

    NOT = lib.HUSSH_DEAD_NOT
    EOF = lib.HUSSH_DEAD_EOF
    OS = lib.HUSSH_DEAD_OS
    PEER = lib.HUSSH_DEAD_PEER
    PROTOCOL = lib.HUSSH_DEAD_PROTOCOL
    MEMORY = lib.HUSSH_DEAD_MEMORY
    KILLED = lib.HUSSH_DEAD_KILLED
    STUCK = lib.HUSSH_DEAD_STUCK  # a fault of the pump, which its belt ended


class ChannelState(IntEnum):
    """How the opening of a channel ended."""

    OPENING = lib.HUSSH_CH_OPENING
    OPEN = lib.HUSSH_CH_OPEN
    REFUSED = lib.HUSSH_CH_REFUSED
    DEAD = lib.HUSSH_CH_DEAD
    UNHEARD = lib.HUSSH_CH_UNHEARD  # opened behind a login request that was not granted


class Method(IntEnum):
    """Kinds of algorithms that can be preferred or asked for."""

    KEX = lib.LIBSSH2_METHOD_KEX
    HOSTKEY = lib.LIBSSH2_METHOD_HOSTKEY
    CRYPT_CS = lib.LIBSSH2_METHOD_CRYPT_CS
    CRYPT_SC = lib.LIBSSH2_METHOD_CRYPT_SC
    MAC_CS = lib.LIBSSH2_METHOD_MAC_CS
    MAC_SC = lib.LIBSSH2_METHOD_MAC_SC
    COMP_CS = lib.LIBSSH2_METHOD_COMP_CS
    COMP_SC = lib.LIBSSH2_METHOD_COMP_SC


KEX_FAILURES = (lib.LIBSSH2_ERROR_KEX_FAILURE, lib.LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE)
#: Whether this processor has instructions for AES-GCM.
FAST_AES = bool(lib.hussh_fast_aes())
WANT_WRITE: int = lib.HUSSH_WANT_WRITE
MORE: int = lib.HUSSH_MORE
EVENTS: int = lib.HUSSH_EVENTS
FULL: int = lib.HUSSH_FULL
WORK: int = lib.HUSSH_WORK
