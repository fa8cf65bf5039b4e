"""What an ssh configuration says of a hop and no argument can say; pure data.

`settings.py` makes it, `_policy/options.py` carries it. The check of a host key and the login read
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

__all__ = ["NOT_CONFIGURED", "Configured"]


class Configured(NamedTuple):
    """Of one hop; every value is as ssh_config(5) means it, and None where that is not set.

    Attributes:
        names: the arguments that the configuration gave.
        identity_files: IdentityFile, expanded, in place of the default keys.
        certificate_files: CertificateFile, expanded.
        identities_only: of the agent's keys only those of `identity_files`.
        methods: what may be tried of RFC 4252's methods, in this order.
        signature_algorithms: PubkeyAcceptedAlgorithms.
        ca_algorithms: CASignatureAlgorithms.
        revoked_host_keys: the file of RevokedHostKeys.
        revoked_keys: what stands in there.
        known_hosts_command: the argv of KnownHostsCommand; the looked-up name stands for NULs.
        known_hosts_text: what it has printed.
        connect_timeout: seconds, where the caller gave no time-out.
        keepalive_count: probes without an answer that end the connection.
        rekey_bytes: RekeyLimit, in one direction; 0: as many as suit the cipher.
        env: SetEnv, for every session.
        forward_agent: ForwardAgent: True or a path, for every session.
    """

    names: frozenset[str] = frozenset()
    identity_files: tuple[str, ...] | None = None
    certificate_files: tuple[str, ...] = ()
    identities_only: bool = False
    methods: tuple[str, ...] | None = None
    signature_algorithms: tuple[str, ...] | None = None
    ca_algorithms: tuple[str, ...] | None = None
    revoked_host_keys: str | None = None
    revoked_keys: tuple[bytes, ...] = ()
    known_hosts_command: tuple[str, ...] | None = None
    known_hosts_text: bytes = b""
    connect_timeout: float | None = None
    keepalive_count: int | None = None
    rekey_bytes: int = 0
    env: tuple[tuple[str, str], ...] = ()
    forward_agent: bool | str = False

    def complete_env(self, env: Mapping[str, str] | None) -> dict[str, str]:
        """Return the variables of a session, with those that the caller gives for it."""
        return {**dict(self.env), **(env or {})}

    def list_shown(self) -> Iterator[tuple[str, str]]:
        """Return what is set, by ssh's own keywords, for reports; no secret is in it.

        Of variables and of a command's arguments only names are shown: they may be secrets.
        """
        lists: tuple[tuple[str, tuple[str, ...] | None], ...] = (
            ("IdentityFile", self.identity_files),
            ("CertificateFile", self.certificate_files or None),
            ("PreferredAuthentications", self.methods),
            ("PubkeyAcceptedAlgorithms", self.signature_algorithms),
            ("CASignatureAlgorithms", self.ca_algorithms),
            ("KnownHostsCommand", (self.known_hosts_command or ())[:1] or None),
            ("SetEnv", tuple([name for name, _ in self.env]) or None),
        )
        for keyword, values in lists:
            if values is not None:
                yield keyword, ", ".join(values) or "none"
        single: tuple[tuple[str, object], ...] = (
            ("IdentitiesOnly", self.identities_only and "yes"),
            ("RevokedHostKeys", self.revoked_host_keys),
            ("ConnectTimeout", self.connect_timeout and f"{self.connect_timeout:g}"),
            ("ServerAliveCountMax", self.keepalive_count),
            ("ForwardAgent", "yes" if self.forward_agent is True else self.forward_agent),
        )
        for keyword, value in single:
            if value:
                yield keyword, str(value)

    @property
    def has_keys(self) -> bool:
        """Whether it says anything of the keys for the login."""
        named = self.identity_files is not None or self.certificate_files
        return bool(named or self.identities_only)


#: Where there is no ``config=``.
NOT_CONFIGURED = Configured()
