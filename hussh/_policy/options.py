"""What a user asks for one hop: credentials, host key policy, algorithms; pure data.

Secrets live only here; nothing in this module puts them into a repr.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

__all__ = ["Algorithms", "BannerCallback", "Options", "Prompt", "PromptRequest", "is_secret",
           "preferred_ciphers"]  # fmt: skip

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class Prompt:
    """One question of the server; `echo` says whether the answer may be shown."""

    text: str
    echo: bool


@dataclass(frozen=True)
class PromptRequest:
    """One round of keyboard-interactive authentication (RFC 4256 section 3.2).

    Attributes:
        hop: the hop that asks, as ``user@host:port``.
        name, instruction: the server's words for the whole round; may be empty.
        prompts: what it asks; the callback returns one answer for each, in order.
    """

    hop: str
    name: str
    instruction: str
    prompts: tuple[Prompt, ...]


#: A coroutine function is for the async API.
PromptCallback = Callable[[PromptRequest], "Sequence[str] | Awaitable[Sequence[str]]"]

#: Called with the hop (``user@host:port``) and the text of a login banner; a coroutine function
#: is for the async API.
BannerCallback = Callable[[str, str], "object | Awaitable[object]"]

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


#: Elliptic curves only: quick, and every server of the last ten years has one of them.
KEY_EXCHANGE = (
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
)
HOST_KEYS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
#: Best first where the processor has no instructions for AES.
CIPHERS = (
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)


def preferred_ciphers(*, fast_aes: bool) -> tuple[str, ...]:
    """CIPHERS in the order for this processor.

    With instructions for AES-GCM that costs both ends least: sshd's
    ChaCha20-Poly1305 takes up to three times as long.
    """
    gcm = tuple(name for name in CIPHERS if "-gcm@" in name)
    return (*gcm, *(name for name in CIPHERS if name not in gcm)) if fast_aes else CIPHERS


#: For the CTR ciphers; the -etm variants went through too much unchecked code in libssh2.
MACS = ("hmac-sha2-256", "hmac-sha2-512")


@dataclass(frozen=True)
class Algorithms:
    """Names to offer, best first (RFC 4253 section 7.1)."""

    key_exchange: tuple[str, ...] = KEY_EXCHANGE
    host_keys: tuple[str, ...] = HOST_KEYS
    ciphers: tuple[str, ...] = CIPHERS
    macs: tuple[str, ...] = MACS
    compression: bool = False

    @cached_property
    def lists(self) -> tuple[bytes, bytes, bytes]:
        """Key exchange, ciphers and MACs as one name-list each (RFC 4251 section 5)."""
        # Kept, because a batch offers them to every host.
        offered = self.key_exchange, self.ciphers, self.macs
        key_exchange, ciphers, macs = (",".join(names).encode("ascii") for names in offered)
        return key_exchange, ciphers, macs


@dataclass(frozen=True, repr=False)
class Options:
    """Everything that one hop needs to know besides the way to it."""

    host: str
    port: int = 22
    username: str = "root"
    password: str | None = None
    private_key: str | None = None
    agent: bool | str | os.PathLike[str] | None = None
    prompt: PromptCallback | None = None
    on_banner: BannerCallback | None = None
    known_hosts: tuple[str, ...] = ("~/.ssh/known_hosts",)
    host_key_policy: str = "accept-unknown"
    algorithms: Algorithms = field(default_factory=Algorithms)
    #: Seconds between keepalives; 0: none.
    keepalive_interval: float = 0
    #: The argv whose stdin and stdout reach this hop; only the first hop may have one.
    proxy_command: tuple[str, ...] | None = None
    #: Ceilings for SFTP, which only the last hop has: requests under way, and open files.
    sftp_requests: int | None = None
    sftp_open_files: int | None = None
    #: Names of the arguments that a configuration of ssh gave; see `config=`.
    configured: frozenset[str] = field(default=frozenset(), compare=False)
    #: How an error says that; the two APIs of 0.3.3 worded it differently.
    defaults_failed: str = DEFAULTS_FAILED

    def __repr__(self) -> str:
        return f"Options(host={self.host!r}, port={self.port}, username={self.username!r}, …)"
