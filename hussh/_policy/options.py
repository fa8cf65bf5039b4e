"""Everything that one hop needs to know, except how to reach it; pure data.

`_api/plan.py` makes it from a constructor's arguments. Connecting and the operations read it.
Secrets live only here, and nothing in this module puts them into a repr.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .algorithms import Algorithms
from .connection_options import ConnectionOptions, add_defaults
from .hostkeys.known_hosts import DEFAULT_FILES
from .hostkeys.pins import Pins
from .keys.given_keys import GivenKey, get_path
from .ssh_config.configured import NOT_CONFIGURED, Configured

__all__ = ["DEFAULTS_FAILED", "Options", "is_secret"]

#: The error where no credential was given and nothing else works.
DEFAULTS_FAILED = "Failed to authenticate with ssh-agent and default SSH keys"


def is_secret(value: object) -> bool:
    """Whether it can be sent as a password or an answer (RFC 4252 section 8: UTF-8).

    A NUL would end it early in servers written in C.  The codec's own error is
    never raised: it carries the text.
    """
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, repr=False)
class Options:
    """Everything that one hop needs to know besides the way to it.

    What is declared in `connection_options` is in `settings`.  Fields are the arguments that
    0.3.3 takes by position, and what a hop needs in another form: `algorithms`, `known_hosts`.
    """

    host: str
    port: int = 22
    username: str = "root"
    password: str | None = None
    #: What ``private_key=`` names.
    keys: tuple[GivenKey, ...] = ()
    known_hosts: tuple[str, ...] = DEFAULT_FILES
    #: The keys that this host may have; known_hosts are not asked then.
    host_key_pins: Pins | None = None
    algorithms: Algorithms = field(default_factory=Algorithms)
    #: Seconds between keepalives; 0: none.
    keepalive_interval: float = 0
    #: The argv whose stdin and stdout reach this hop; only the first hop may have one.
    proxy_command: tuple[str, ...] | None = None
    #: What the user's ssh configuration says besides; see `config=`.
    configured: Configured = NOT_CONFIGURED
    #: How an error says that; the two APIs of 0.3.3 worded it differently.
    defaults_failed: str = DEFAULTS_FAILED
    #: Every declared option, checked, under its own name.
    settings: ConnectionOptions = field(default_factory=add_defaults, hash=False)

    @property
    def private_key(self) -> str:
        """The path that ``private_key=`` names first; "" if it names none."""
        return get_path(self.keys)

    @property
    def configured_rsa_size(self) -> int:
        """Bits that the ssh configuration wants an RSA key of the user's to have, or 0."""
        is_configured = "required_rsa_size" in self.configured.names
        return self.settings["required_rsa_size"] if is_configured else 0

    @property
    def gives_ticket(self) -> bool:
        """Whether the caller, and not only the ssh configuration, wants a login by Kerberos."""
        return bool(self.settings["gssapi"]) and "gssapi" not in self.configured.names

    def __repr__(self) -> str:
        return f"Options(host={self.host!r}, port={self.port}, username={self.username!r}, …)"
