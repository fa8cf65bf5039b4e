"""The options of a connection: each is declared here, once.

A line of `ConnectionOptions` gives an option its name, its type, its default and its sentence in
`help()`.  Type checkers and editors read these lines (PEP 692), and `_api/declared.py` makes the
signatures and the documentation of `Connection`, `AsyncConnection` and
`MultiConnection.from_shared_auth` of them.  To add an option:

1. declare it here;
2. add its check to `CHECKS` in `_api/check_options.py`;
3. use it: every hop has it, checked, as ``options.settings["name"]`` (`_policy/options.py`).

Nothing here checks a value or opens anything.  This module evaluates its annotations, so it must
not import `annotations` from `__future__`.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypedDict, cast, get_args

from .algorithms import CIPHERS, HOST_KEYS, KEY_EXCHANGE, MACS, REQUIRED_RSA_SIZE
from .hostkeys.host_key import HostKeyCallback
from .hostkeys.known_hosts import DEFAULT_FILES
from .prompts import BannerCallback, PromptCallback

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ARGUMENTS", "DEFAULT_USER", "ConnectionOptions", "Declared", "DefaultUser",
           "Milliseconds", "Option", "Paths",
           "Seconds", "read_declared", "add_defaults"]  # fmt: skip

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

#: Units that an editor shows beside an argument.
Seconds = float | timedelta
Milliseconds = float | timedelta


class DefaultUser(str):
    """A user name that nobody has given."""

    __slots__ = ()


#: In signatures, where it shows as 'root'.
DEFAULT_USER = DefaultUser("root")


class Option(NamedTuple):
    """What the declaration of an option says besides its name and type.

    Attributes:
        default: as signatures show it.
        text: what it is for, in the words of the sync API, without its unit.
        unit: of its value, in every API the same.
        in_async: what the async API does besides.
    """

    default: object
    text: str
    unit: str = ""
    in_async: str = ""


class Declared(NamedTuple):
    """One declared option: its type and what else the declaration says."""

    type: Any
    option: Option


#: A callback in a thread is for the async API only.
_CALLED = "A coroutine function is awaited; any other is called in a thread."


class ConnectionOptions(TypedDict, total=False):
    """All options of a connection that are given by keyword."""

    config: Annotated[
        bool | str | os.PathLike[str] | None,
        Option(
            None,
            "True: what ``ssh -G`` says for this host (the user's files and the system's); a path: "
            "that file; it holds for every hop, and arguments that are given win.",
        ),
    ]
    known_hosts: Annotated[
        Paths,
        Option(
            DEFAULT_FILES,
            "path or paths of known_hosts files; a new key is recorded in the first.",
        ),
    ]
    host_key_policy: Annotated[
        str | HostKeyCallback,
        Option(
            "accept-unknown",
            '``"accept-unknown"`` (an unknown host is accepted, a changed or revoked key never), '
            '``"accept-new"`` (the same, and the key is recorded), ``"strict"``, ``"ignore"``; '
            "or a function that is called with a `HostKey` and returns whether it may be trusted; "
            "holds for every hop.",
            in_async=_CALLED,
        ),
    ]
    host_key: Annotated[
        str | Sequence[str] | None,
        Option(
            None,
            'the keys that the target may have, as ``"SHA256:…"`` or ``"ssh-ed25519 AAAA…"``; '
            "known_hosts are not asked for it then.",
        ),
    ]
    host_key_alias: Annotated[
        str | None,
        Option(
            None,
            "the name under which the target's key is looked up and recorded, instead of its "
            "host and port.",
        ),
    ]
    certificate: Annotated[
        str | bytes | os.PathLike[str] | None,
        Option(
            None,
            "path or text of a user certificate, for the key that it belongs to, also one of the "
            "agent.",
        ),
    ]
    gssapi: Annotated[
        bool | str,
        Option(
            False,
            "True logs in with the user's Kerberos ticket, before `private_key` and `password` if "
            "they are given (needs ``pip install 'hussh[gssapi]'``).  A string says how Kerberos "
            'knows the target: ``"host.example.com"``, or ``"host/host.example.com@REALM"``.',
        ),
    ]
    agent: Annotated[
        bool | str | os.PathLike[str] | None,
        Option(None, "False never asks the ssh-agent; a path names the agent's socket."),
    ]
    prompt: Annotated[
        PromptCallback | None,
        Option(
            None,
            "called with a `PromptRequest` for questions of the server that `password` does not "
            "answer; returns one string for each prompt.",
            in_async=_CALLED,
        ),
    ]
    on_banner: Annotated[
        BannerCallback | None,
        Option(
            None,
            "called with ``(hop, text)`` for each login banner of a hop, whose text is fit to "
            "print.",
            in_async=_CALLED,
        ),
    ]
    allow_empty_password: Annotated[
        bool,
        Option(
            False,
            'with True ``password=""`` is offered as a password; otherwise an empty one counts as '
            "not given.",
        ),
    ]
    bind_address: Annotated[
        str | None,
        Option(None, "the local IP address at which the first hop's connection begins."),
    ]
    family: Annotated[
        str | int,
        Option(
            "any",
            'family of the first hop\'s address: ``"any"``, ``"inet"`` (IPv4), ``"inet6"``, or a '
            "``socket.AF_*``.",
        ),
    ]
    compression: Annotated[bool, Option(False, "zlib, from after the login on.")]
    ciphers: Annotated[
        Sequence[str],
        Option(CIPHERS, "names of ciphers to offer, best first, instead of the defaults."),
    ]
    key_exchange: Annotated[
        Sequence[str],
        Option(KEY_EXCHANGE, "names of key exchange methods to offer, best first."),
    ]
    macs: Annotated[
        Sequence[str], Option(MACS, "names of MACs to offer, best first, for CTR ciphers.")
    ]
    host_key_algorithms: Annotated[
        Sequence[str], Option(HOST_KEYS, "names of host key algorithms to offer, best first.")
    ]
    rekey_interval: Annotated[
        float | timedelta,
        Option(
            0,
            "how long the keys of each hop are used at most; then hussh asks for new ones.  0 "
            "means for as many bytes as suit the cipher.",
            unit="seconds",
        ),
    ]
    required_rsa_size: Annotated[
        int,
        Option(
            REQUIRED_RSA_SIZE,
            "the fewest bits that an RSA host key may have, at every hop, whatever the policy for "
            "host keys is.",
        ),
    ]
    spare_channel: Annotated[
        bool,
        Option(
            True,
            "whether a session may be opened before it is needed: behind the login, and beside "
            "commands of a connection that has run one before.  Whoever needs a session next is "
            "spared a round trip; logs of the server may show sessions in which nothing ran.",
        ),
    ]
    sftp_requests: Annotated[
        int | None,
        Option(
            None,
            "most SFTP requests under way at once; None means 64, or more if the server is known "
            "to allow more, see docs/files.md.",
        ),
    ]
    sftp_open_files: Annotated[
        int | None,
        Option(None, "most files that SFTP has open at once; None means what the server allows."),
    ]
    stream: Annotated[
        object,
        Option(
            None,
            "what carries the first hop instead of a socket of ours: a connected socket, an "
            "`ssl.SSLSocket`, or anything with ``recv``, ``send`` or ``sendall``, and ``close``.  "
            "It belongs to the connection, which closes it.",
            in_async="Also an anyio `ByteStream` or asyncio's ``(reader, writer)``.",
        ),
    ]


#: What stands in the signatures themselves, because 0.3.3 takes it by position, in each API in
#: another order and some with another default.  The unit of `timeout` is that of the API.
ARGUMENTS: Mapping[str, Option] = {
    "host": Option(..., "name or address; behind a bastion the last bastion resolves it."),
    "port": Option(22, "TCP port of the target."),
    "username": Option(
        "root", "user on the target, and on jump hosts given without one; None means ``root``."
    ),
    "password": Option(None, "login password; with `private_key`, the key's passphrase."),
    "private_key": Option(
        None,
        "path of a key file, `~` expands; or the text of one, a private key of `cryptography`, or "
        "a list of these, tried in order.  A public key means this key of the ssh-agent.",
    ),
    "key_path": Option(None, "another name for `private_key`; one of both may be given."),
    "proxy_jump": Option(
        None,
        'the way there: a `Connection`, ``"user@host:port"`` (also IPv6 in brackets, ``ssh://`` '
        "URLs and comma-separated chains), a ``(host, port)`` tuple, or a list of these in the "
        'order of travel; ``"none"`` and None mean no bastion.',
        in_async="An `AsyncConnection` that is not connected is connected by the first that "
        "needs it, and closed after the last that uses it; one that you connected stays open.",
    ),
    "proxy_command": Option(
        None,
        "a program whose stdin and stdout are the byte stream to the target, such as "
        '``"nc %h %p"``: a string is run by ``/bin/sh -c "exec …"``, a list is an argv without a '
        "shell.  Tokens: ``%h`` host, ``%p`` port, ``%r`` user, ``%n`` host as given, ``%%``.",
    ),
    "timeout": Option(
        0,
        "for connecting, over all hops and phases, and for each later call; 0 or None means no "
        "limit.",
        unit="milliseconds",
    ),
    "keepalive_interval": Option(
        0,
        "between probes of every hop; after three without any sign of life the connection is "
        "lost.  0 means no probes.",
        unit="seconds",
    ),
}


def read_declared(options: type) -> dict[str, Declared]:
    """Return what a `TypedDict` of options declares, in order, with what it inherits."""
    return {
        name: Declared(*get_args(annotation)[:2])
        for name, annotation in options.__annotations__.items()
    }


_DEFAULTS = {name: option.default for name, (_, option) in read_declared(ConnectionOptions).items()}


def add_defaults(**given: "Unpack[ConnectionOptions]") -> ConnectionOptions:
    """Return these options, and the declared default of each other one; checks nothing."""
    return cast(ConnectionOptions, {**_DEFAULTS, **given})
