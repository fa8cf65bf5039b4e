"""The findings of `hussh.explain`, as data and as text; they contain no secret.

`explain` makes a `Report`. Users print it, read its attributes, or turn it into JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["HopReport", "HostKeyReport", "Report", "Setting"]


@dataclass(frozen=True)
class Setting:
    """One setting of a hop: its value, fit to show, and where it came from.

    `source` is "argument", "configuration" or "default".
    """

    name: str
    value: str
    source: str


@dataclass(frozen=True)
class HostKeyReport:
    """The host key that a hop presented.

    Attributes:
        algorithm, fingerprint: of the key, such as "ssh-ed25519" and "SHA256:…".
        name: the name that was looked up, ``[host]:port`` for ports other than 22.
        verdict: how the known hosts and the policy judged it.
        places: ``file:line`` of the lines that decided it.
    """

    algorithm: str
    fingerprint: str
    name: str
    verdict: str
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class HopReport:
    """The findings about one hop.

    Attributes:
        hop: ``user@host:port``.
        index: its number in the order of travel, from 0.
        state: "connected", "connected before", "failed" or "not reached".
        settings: with their sources; a secret is shown as "given".
        carrier: the hop or the program whose stream carries it; "" for a socket.
        addresses: addresses of the name, as this machine resolved it; behind a bastion the
            bastion resolves it.
        address: the address that answered, or "".
        unanswered: addresses that were tried and did not answer, with the reason.
        banner: the server's version.
        algorithms: what was agreed on, by kind: "kex", "hostkey", "cipher", "mac",
            "compression".
        post_quantum: whether the key exchange withstands quantum computers; None if there was
            none.
        methods: the login methods that the server offered, if it told them.
        attempts: each credential that was tried, and how the server answered.
        login_banner: the text that the server shows before the login, as one line.
        milliseconds: how long each phase took.
    """

    hop: str
    index: int
    state: str
    settings: tuple[Setting, ...] = ()
    carrier: str = ""
    addresses: tuple[str, ...] = ()
    address: str = ""
    unanswered: tuple[str, ...] = ()
    banner: str = ""
    algorithms: dict[str, str] = field(default_factory=dict)
    post_quantum: bool | None = None
    host_key: HostKeyReport | None = None
    methods: tuple[str, ...] = ()
    attempts: tuple[tuple[str, str], ...] = ()
    login_banner: str = ""
    milliseconds: dict[str, float] = field(default_factory=dict)

    def lines(self) -> Iterator[tuple[str, str]]:
        """Return what is known of the hop, as pairs of a label and a text."""
        by_source: dict[str, list[str]] = {}
        for setting in self.settings:
            by_source.setdefault(setting.source, []).append(f"{setting.name} {setting.value}")
        for source, settings in by_source.items():
            yield source, "; ".join(settings)
        if self.carrier:
            yield "way", f"through {self.carrier}"
        if self.addresses:
            yield "name", f"resolved to {', '.join(self.addresses)}"
        for one in self.unanswered:
            yield "address", f"{one}"
        if self.address:
            yield "address", f"{self.address} answered"
        if self.banner:
            yield "server", self.banner
        if self.algorithms:
            names = ", ".join(f"{kind} {name}" for kind, name in self.algorithms.items())
            yield "algorithms", names
            yield (
                "quantum",
                "post-quantum key exchange"
                if self.post_quantum
                else ("the key exchange is not post-quantum"),
            )
        key = self.host_key
        if key is not None:
            where = f" at {', '.join(key.places)}" if key.places else ""
            yield "host key", f"{key.algorithm} {key.fingerprint}"
            yield "verdict", f"{key.name}: {key.verdict}{where}"
        if self.login_banner:
            yield "says", self.login_banner
        if self.methods:
            yield "methods", ", ".join(self.methods)
        for name, result in self.attempts:
            yield "credential", f"{name}: {result}"
        if self.milliseconds:
            times = [f"{name} {time:.0f} ms" for name, time in self.milliseconds.items()]
            yield "time", ", ".join(times)


@dataclass(frozen=True)
class Report:
    """The result of `hussh.explain`.

    Attributes:
        connected: whether the target was reached and the login succeeded.
        hops: in the order of travel, the target last.
        hop, phase: where it failed; None if it did not.
        cause: the text of the error; "" if it did not fail.
        advice: what to do about it.
        error: the class of the error, such as "KeyRefused"; "" if it did not fail.
    """

    connected: bool
    hops: tuple[HopReport, ...]
    hop: str | None = None
    phase: str | None = None
    cause: str = ""
    advice: str = ""
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the same as dictionaries, lists, strings and numbers."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data

    def to_json(self) -> str:
        """Return the same as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    @property
    def verdict(self) -> str:
        """The outcome in one line."""
        if self.connected:
            return f"connected to {self.hops[-1].hop}" if self.hops else "connected"
        where = f" at {self.hop}" if self.hop else ""
        return f"not connected: failed{where} in phase {self.phase or 'connect'}"

    def __str__(self) -> str:
        lines = []
        for hop in self.hops:
            lines.append(f"{hop.index + 1}. {hop.hop}: {hop.state}")
            lines += [f"   {word:<14}{text}" for word, text in hop.lines()]
        lines.append(self.verdict)
        if not self.connected:
            lines += [f"   {'cause':<14}{self.cause}", f"   {'advice':<14}{self.advice}"]
        return "\n".join(lines)
