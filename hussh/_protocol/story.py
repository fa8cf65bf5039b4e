"""Collects what happens while a connection is made, hop by hop, for reports and for the log.

A `Story` is the one collector that both ``hussh.explain`` and the log read. Code that connects asks
`get_current_story` for one. It gets the story of a listener, or a new one if the logger wants
lines, or None if nobody wants to know, so that nothing is collected then.

The loggers are ``hussh.connect`` and, for the login, ``hussh.auth``: one line for each phase at
INFO, the details at DEBUG. Handlers may wait, so lines are queued here. An operation writes them
with `HopStory.write_log`, a driver with `Story.flush`. The caller has the clock. No secret comes
here: credentials are named by path, comment and fingerprint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

from .._native.constants import Method
from .._native.link import Link
from .._policy.algorithms import HopAlgorithms, is_post_quantum
from .._policy.options import Options
from ..errors import AuthenticationError, HusshError, Phase, printable
from .core import Op, RunBlocking

__all__ = ["Attempt", "HopStory", "KeySeen", "PhaseTime", "Story", "list_agreed",
           "make_hop_algorithms", "get_current_story", "is_aead", "listen"]  # fmt: skip

_connect_log = logging.getLogger("hussh.connect")
_auth_log = logging.getLogger("hussh.auth")

Line = tuple[logging.Logger, int, str]


class PhaseTime(NamedTuple):
    """One phase of one hop: when it began and ended, in seconds of the story's clock."""

    name: str
    begun: float
    ended: float | None = None


class KeySeen(NamedTuple):
    """The host key that a server presented, and how it was judged.

    Attributes:
        verdict: a short text, such as "known".
        places: ``file:line`` of the lines that decided it.
    """

    algorithm: str
    fingerprint: str
    name: str
    verdict: str
    places: tuple[str, ...] = ()


class Attempt(NamedTuple):
    """One credential, and its result ("accepted", "refused" …); never the credential itself."""

    name: str
    result: str


@dataclass(eq=False, repr=False)
class HopStory:
    """What happened at one hop.

    Attributes:
        hop, index: as in errors.
        options: the options of the hop; secrets are in there.
        addresses: the addresses of the name, as resolved here; empty behind a bastion.
        address: the address that answered.
        unanswered: the others that were tried, with the reason.
        carrier: the hop, or the program, whose stream carries this one; "" for a socket.
        algorithms: what was agreed on, by kind.
        methods: the login methods that the server named first.
        is_up: whether it is logged in.
    """

    hop: str
    index: int
    _story: Story
    options: Options | None = None
    phases: list[PhaseTime] = field(default_factory=list)
    addresses: tuple[str, ...] = ()
    address: str = ""
    unanswered: tuple[str, ...] = ()
    carrier: str = ""
    banner: str = ""
    algorithms: dict[str, str] = field(default_factory=dict)
    key: KeySeen | None = None
    methods: tuple[str, ...] = ()
    attempts: list[Attempt] = field(default_factory=list)
    login_banner: str = ""
    is_up: bool = False

    # -- phases

    def begin(self, phase: Phase) -> None:
        """Begin a phase, and end the one before it; the same phase again changes nothing."""
        if self.is_up or (self.phases and self.phases[-1].name == phase and self._is_open()):
            return
        self.end()
        self.phases.append(PhaseTime(str(phase), self._story.clock()))
        self._add(_connect_log, logging.DEBUG, f"{phase}: begins")

    def end_phase(self, text: str) -> None:
        """End the phase well; `text` is the line for it."""
        seconds = self.end()
        self._add(
            _connect_log, logging.INFO, f"{self.phases[-1].name}: {text} ({_show_ms(seconds)})"
        )

    def add_detail(self, text: str) -> None:
        """Add a line at DEBUG."""
        self._add(_connect_log, logging.DEBUG, text)

    def _is_open(self) -> bool:
        return bool(self.phases) and self.phases[-1].ended is None

    def end(self) -> float:
        """End the phase, well or not; return the seconds that it took."""
        if not self.phases:
            return 0.0
        last = self.phases[-1]
        if last.ended is None:
            last = self.phases[-1] = PhaseTime(last.name, last.begun, self._story.clock())
        return (last.ended or last.begun) - last.begun

    # -- what was found out

    def note_addresses(self, addresses: Iterable[str]) -> None:
        self.addresses = tuple(dict.fromkeys(addresses))
        self.add_detail(f"addresses: {', '.join(self.addresses)}")

    def note_answer(self, address: str, unanswered: Iterable[str], port: int) -> None:
        self.address, self.unanswered = address, tuple(unanswered)
        for one in self.unanswered:
            self.add_detail(f"no answer from {one}")
        self.end_phase(f"{address} port {port} answered")

    def note_no_answer(self, unanswered: Iterable[str]) -> None:
        self.unanswered = tuple(unanswered)
        for one in self.unanswered:
            self.add_detail(f"no answer from {one}")

    def note_carrier(self, carrier: str, text: str) -> None:
        """Note that a bastion or a program carries the stream."""
        self.carrier = carrier
        self.end_phase(text)

    def note_banner(self, banner: str | None) -> None:
        self.banner = printable(banner or "")
        self.end_phase(f"the server is {self.banner or 'silent about itself'}")

    def note_algorithms(self, algorithms: dict[str, str]) -> None:
        self.algorithms = algorithms
        names = ", ".join(dict.fromkeys(algorithms.values()))
        withstands = (
            "post-quantum" if is_post_quantum(algorithms.get("kex", "")) else "not post-quantum"
        )
        self.end_phase(f"{names}; {withstands}")

    def note_host_key(self, key: KeySeen) -> None:
        """Note the host key; the error tells of a refused one."""
        self.key = key
        where = f" at {', '.join(key.places)}" if key.places else ""
        self.add_detail(
            f"hostkey: {key.algorithm} {key.fingerprint} of {key.name}: {key.verdict}{where}"
        )

    def note_trusted(self) -> None:
        """Note that the host key was accepted."""
        key = self.key
        if key is not None:
            where = f" at {', '.join(key.places)}" if key.places else ""
            self.end_phase(f"{key.algorithm} {key.fingerprint}: {key.verdict}{where}")

    def note_offered(self, methods: Iterable[str]) -> None:
        """Note what the server would accept for the login, each time that it says so."""
        printed = tuple(printable(method) for method in methods)
        if not self.methods:
            self.methods = printed
        self._add(
            _auth_log, logging.DEBUG, f"the server accepts: {', '.join(printed) or 'nothing'}"
        )

    def note_attempt(self, name: str, result: str) -> None:
        self.attempts.append(Attempt(name, result))
        self._add(_auth_log, logging.DEBUG, f"{name}: {result}")

    def note_up(self) -> None:
        """Note that the hop is logged in; `auth` has logged it."""
        self.end()
        self.is_up = True

    # -- telling

    def write_log(self) -> Op[None]:
        """Write the lines so far to the log, whose handlers may wait."""
        lines = self._story.take()
        if lines:
            yield RunBlocking(lambda _: emit(lines), detachable=True)

    def _add(self, logger: logging.Logger, level: int, text: str) -> None:
        self._story.add(logger, level, f"[{self.hop}] {text}")


class Story:
    """One connection in the making, or several that carry one another.

    Attributes:
        clock: returns seconds, for the time of each phase.
        hops: in the order of travel, from the first that had to be connected.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.hops: list[HopStory] = []
        self._lines: list[Line] = []

    def begin_hop(self, hop: str, index: int, options: Options | None = None) -> HopStory:
        """Begin a new hop."""
        made = HopStory(hop, index, self, options)
        self.hops.append(made)
        return made

    def has_hop(self, index: int) -> bool:
        """Tell whether it has the hop with this index."""
        return any(hop.index == index for hop in self.hops)

    def note_met(self, hop: str, index: int, link: Link) -> None:
        """Note a hop that was connected before, unless this story has connected it."""
        if not self.has_hop(index):
            made = self.begin_hop(hop, index)
            made.banner = printable(link.banner or "")
            made.algorithms = list_agreed(link)
            made.is_up = True

    def note_failure(self, error: HusshError) -> None:
        """Note that connecting failed; the login has logged its own failure already."""
        for hop in self.hops:
            hop.end()
        if not (isinstance(error, AuthenticationError) and error.phase == Phase.AUTH):
            where = f"[{error.hop}] " if error.hop else ""
            text = f"{where}{error.phase or 'connect'}: failed: {error.text}"
            self.add(_connect_log, logging.INFO, text)

    def add(self, logger: logging.Logger, level: int, text: str) -> None:
        """Queue a line, if the logger wants it."""
        if logger.isEnabledFor(level):
            self._lines.append((logger, level, text))

    def take(self) -> list[Line]:
        """Return the lines that were not logged yet; the caller must `emit` them."""
        lines, self._lines = self._lines, []
        return lines

    def flush(self) -> None:
        """Write the lines to the log, whose handlers may wait."""
        emit(self.take())


def emit(lines: Iterable[Line]) -> None:
    """Write lines to the log, whose handlers may wait."""
    for logger, level, text in lines:
        logger.log(level, "%s", text)


#: What was agreed on, by the names of `NegotiationError`; the same both ways.
_AGREED = {"kex": Method.KEX, "hostkey": Method.HOSTKEY, "cipher": Method.CRYPT_CS,
           "mac": Method.MAC_CS, "compression": Method.COMP_CS}  # fmt: skip


def is_aead(cipher: str) -> bool:
    """Tell whether a cipher authenticates by itself, so that there is no MAC beside it."""
    return "-gcm@" in cipher or "-poly1305@" in cipher


def list_agreed(link: Link) -> dict[str, str]:
    """Return the algorithms of a link whose keys are exchanged, by kind."""
    found = {kind: link.get_method(method) for kind, method in _AGREED.items()}
    aead = is_aead(found["cipher"] or "")
    return {
        kind: name
        for kind, name in found.items()
        if name and name != "none" and not (kind == "mac" and aead)
    }


def make_hop_algorithms(hop: str, link: Link) -> HopAlgorithms:
    """Return the same for users."""
    names = list_agreed(link)
    return HopAlgorithms(
        hop,
        names.get("kex", ""),
        names.get("hostkey", ""),
        names.get("cipher", ""),
        names.get("mac", ""),
        names.get("compression", ""),
    )


def _show_ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


_listened: ContextVar[Story | None] = ContextVar("hussh_story", default=None)


@contextmanager
def listen(story: Story) -> Iterator[Story]:
    """Collect in this story what connections inside do."""
    token = _listened.set(story)
    try:
        yield story
    finally:
        _listened.reset(token)


def get_current_story(clock: Callable[[], float]) -> Story | None:
    """Return the story for what happens now; None if nobody wants to know."""
    story = _listened.get()
    if story is not None:
        return story
    wanted = _connect_log.isEnabledFor(logging.INFO) or _auth_log.isEnabledFor(logging.INFO)
    return Story(clock) if wanted else None
