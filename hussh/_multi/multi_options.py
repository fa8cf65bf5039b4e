"""The options of a `MultiConnection` besides those of its connections: each is declared here, once.

As in `_policy/connection_options.py`, whose head says how it works.  `MultiConnection` makes its
signatures of it, `HostGroup` checks and uses the values.  This module evaluates its annotations,
so it must not import `annotations` from `__future__`.
"""

from collections.abc import Mapping
from typing import Annotated, TypedDict, cast

from .._connect.handshake_limits import HANDSHAKES
from .._policy.connection_options import ARGUMENTS, ConnectionOptions, Option, read_declared

__all__ = ["GROUP_ARGUMENTS", "SHARED_ARGUMENTS", "MultiOptions", "SharedAuthOptions",
           "add_group_defaults"]  # fmt: skip


class MultiOptions(TypedDict, total=False):
    """All options of a `MultiConnection` that are given by keyword."""

    loops: Annotated[
        int | None,
        Option(
            None,
            "how many event loops, each in a thread of its own; None: as many as suit the number "
            "of hosts and this machine's cores.",
        ),
    ]
    handshakes: Annotated[
        int,
        Option(
            HANDSHAKES,
            "how many logins one server gets at once; the default suits OpenSSH's own limit "
            "(``MaxStartups 10:30:100``).  A server that refuses some all the same gets fewer, "
            "and these are tried again until the time-out is over; what then fails has a "
            "`ServerBusy` error.",
        ),
    ]
    progress: Annotated[
        bool,
        Option(
            False,
            "show how far an operation is, if stderr is a terminal; needs `rich` (``pip install "
            "'hussh[progress]'``).",
        ),
    ]


class SharedAuthOptions(ConnectionOptions, MultiOptions, total=False):
    """What `MultiConnection.from_shared_auth` takes by keyword."""


#: What stands in the signature of the constructor, because 0.3.3 takes it by position.
GROUP_ARGUMENTS: Mapping[str, Option] = {
    "connections": Option(
        ...,
        "`AsyncConnection` objects that are not connected; or `Connection` objects, which are "
        "not used themselves: connections of their own are made in the same way.  Those that "
        "share one object as bastion share its login.",
    ),
    "batch_size": Option(None, "at most so many hosts are busy at once in a call; None: 100."),
    "timeout": Option(
        None,
        "for connecting to one host; None: each connection's own; 0: no limit.",
        unit="seconds",
    ),
}
#: The same for `from_shared_auth`.
SHARED_ARGUMENTS: Mapping[str, Option] = {
    **ARGUMENTS,
    "hosts": Option(
        ...,
        'names; or mappings with ``"host"`` and any other argument of `AsyncConnection`, which '
        'then holds for that host instead of the common one: ``{"host": "db1", "username": '
        '"admin", "port": 2222}``.',
    ),
    "timeout": Option(
        0,
        "for connecting to one host, and for each later call on it that does not set its own; 0 "
        "or None: no limit.",
        unit="seconds",
    ),
    "batch_size": GROUP_ARGUMENTS["batch_size"],
    "proxy_jump": ARGUMENTS["proxy_jump"]._replace(
        in_async="The hosts share the bastion, and one login on it, also where it is given by "
        "name, as long as it is reached in the same way with the same credentials.",
    ),
}

_DEFAULTS = {name: option.default for name, (_, option) in read_declared(MultiOptions).items()}


def add_group_defaults(given: Mapping[str, object]) -> MultiOptions:
    """Return those of `given` that are declared here, and the default of each other one."""
    known = {name: value for name, value in given.items() if name in _DEFAULTS}
    return cast(MultiOptions, {**_DEFAULTS, **known})
