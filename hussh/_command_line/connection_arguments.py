"""The options of the command line that say how to connect; all subcommands take them.

`explain` and `run` import it. A password is asked for, because every user of the machine can read
an argument; so a host that contains one is refused, and no error repeats it.
"""

from __future__ import annotations

import argparse
import getpass
import re
from typing import Any, NamedTuple

from .._policy.hostkeys.known_hosts import POLICIES

__all__ = [
    "HOST",
    "HostArgument",
    "add_arguments",
    "ask_password",
    "check_seconds",
    "get_common_options",
]

#: What a host is, for the help.
HOST = "[user@]host[:port] or ssh://[user@]host[:port]"


class HostArgument(NamedTuple):
    """A host as the user gave it.

    Attributes:
        port: as an integer or as text; None if it is not given.
    """

    host: str
    username: str | None
    port: int | str | None

    @classmethod
    def parse(cls, text: str) -> HostArgument:
        """Split ``[user@]host[:port]``, where an IPv6 address with a port stands in brackets.

        Raises:
            ValueError: there is a password before the host.
        """
        match = re.fullmatch(r"(?:ssh://)?(.*?)/?", text, re.IGNORECASE)
        username, _, rest = (match[1] if match else text).rpartition("@")
        if ":" in username:  # and what follows it is never shown
            raise ValueError("a host takes no password: --ask-password asks for it")
        parts = re.fullmatch(r"(\[[^]]*\]|[^:]*):([^:]*)", rest)
        host, port = (parts[1], parts[2]) if parts else (rest, None)
        return cls(host, username or None, port)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the parser of a subcommand."""
    add = parser.add_argument
    add("-J", dest="jump", metavar="HOPS", help="jump hosts: [user@]host[:port],…")
    add("-p", dest="port", type=int, metavar="PORT", help="unless the host has one; default 22")
    add("-i", dest="key", metavar="FILE", help="private key")
    add("-l", dest="user", metavar="USER", help="unless the host has one; the default is root")
    add("--proxy-command", metavar="COMMAND", help='such as "nc %%h %%p"')
    add("--known-hosts", metavar="FILE", action="append", help="may be repeated")
    add("--host-key-policy", choices=POLICIES)
    add("-F", dest="config_file", metavar="FILE",
        help="an ssh configuration; default: none is read")  # fmt: skip
    add("--config", action="store_true", help="read ~/.ssh/config and the system's, as ssh does")
    add("--no-agent", action="store_true", help="do not ask the ssh-agent")
    add("--gssapi", action="store_true", help="log in with the Kerberos ticket")
    add("--ask-password", action="store_true",
        help="ask for a password, or with -i for the key's passphrase")  # fmt: skip


def get_common_options(given: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a connection that hold for every host, without a password."""
    options = {
        "port": given.port,
        "username": given.user,
        "private_key": given.key,
        "proxy_jump": given.jump,
        "proxy_command": given.proxy_command,
        "known_hosts": given.known_hosts,
        "host_key_policy": given.host_key_policy,
        "config": given.config_file or given.config or None,
        "agent": False if given.no_agent else None,
        "gssapi": given.gssapi or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def ask_password(given: argparse.Namespace, whose: str) -> dict[str, str]:
    """Ask for the password, if the user wants that; return it as an option.

    Args:
        whose: what the password is for.

    Raises:
        ValueError: the input has ended.
    """
    if not given.ask_password:
        return {}
    what = f"passphrase of {given.key}" if given.key else f"password for {whose}"
    try:
        return {"password": getpass.getpass(f"{what}: ")}
    except EOFError:
        raise ValueError("--ask-password got no password: the input has ended") from None


def check_seconds(name: str, seconds: float) -> float:
    """Return a number of seconds that an option has; 0 means no limit."""
    if not 0 <= seconds < 1e9:
        raise ValueError(f"{name} must be a number of seconds, not negative")
    return seconds
