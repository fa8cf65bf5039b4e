"""Hops that are up, and ways on their way up: what the drivers share of them.

A `Hop` is one session: its link, the tree it lives in, and the hop of the
bastion that carries it.  The drivers add how one runs an operation on it.  A
`Way` is a connection in the making.  Nothing here waits, but for what is said
at `Hop.failed` and `Way.failed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Generic, TypeVar

from .._native.link import Link
from .._policy.file_cache import NEVER, KeyFile
from .._policy.options import Options
from .._protocol.connect import Stage, bring_up, plan, timed_out
from .._protocol.core import DeadlineExceeded, Op
from .._protocol.handshake import Place
from .._protocol.host_key_check import known_hosts, recorded_in
from .._protocol.story import Story, current_story
from .._runtime.driver import Driver
from .._runtime.keepalive import Keepalive
from .._runtime.single_flight import one_at_a_time
from ..errors import CommandTimeout, ConnectionClosed, HusshError
from .agent_socket import ask_agent
from .handshake_limits import Server, server_of

__all__ = ["Hop", "Way"]

AnyDriver = TypeVar("AnyDriver", bound=Driver[Any])
H = TypeVar("H", bound="Hop[Any]")


class Hop(Generic[AnyDriver]):
    """One hop, from when its byte stream exists.

    Attributes:
        outer: the hop whose channel carries this one, or None.
        owned: whether `outer` was made for this one and ends with it.
        server: whom its login counts for, where logins are paced.
    """

    server: Server | None = None

    def __init__(
        self,
        driver: AnyDriver,
        link: Link,
        place: Place,
        outer: Hop[AnyDriver] | None,
        *,
        owned: bool,
    ) -> None:
        self.driver = driver
        self.link = link
        self.place = place
        self.outer = outer
        self.owned = owned
        self.closed = False
        self.keepalive = False

    # -- what a driver adds

    def tend(self, interval: float) -> None:
        """Call `probe` every `interval` seconds, until it says no or this is closed."""
        raise NotImplementedError

    def untend(self) -> None:
        """This is closed, so that nobody need tend it."""
        raise NotImplementedError

    # -- for both

    @property
    def hop(self) -> str:
        return self.place.hop

    def check_open(self) -> None:
        if self.closed:
            raise ConnectionClosed("the connection is closed")
        outer = self.outer
        while outer is not None:
            if outer.closed:
                raise ConnectionClosed(f"the connection to the bastion {outer.hop} was closed")
            outer = outer.outer

    def at_once(self, call: Callable[[], object]) -> None:
        """Make a call that only queues, such as one that closes; never waits, may be nested."""
        with self.driver.mine() as root:
            call()
            if not root.freed:
                root.flush()

    def failed(self, error: HusshError, phase: str | None) -> HusshError:
        """What to raise for an error of an operation: it knows its place and its cause.

        Waits half a second for a proxy command that is about to end (`Driver.slow`).
        """
        if self.outer is None:
            error = self._explained(error)
        error.at(self.hop, self.place.index, phase)
        error.__cause__ = self._cause(error)
        return error

    def command_timeout(self, limit: str, phase: str) -> CommandTimeout:
        """The error for an operation that did not end in time; `limit` words how long that was."""
        error = CommandTimeout(f"timed out after {limit}", phase=phase)
        error.at(self.hop, self.place.index)
        return error

    def _explained(self, error: HusshError) -> HusshError:
        """The same, in the words of the stream that carries us; keeps partial output."""
        better = self.driver.explain(error)
        if better is not error:
            better.__dict__.update(
                {k: v for k, v in error.__dict__.items() if k not in better.__dict__}
            )
        return better

    def _cause(self, error: HusshError) -> BaseException | None:
        """Where a connection is lost because one that carries it is: that one's own error."""
        lost = None
        outer = self.outer
        if outer is None or self.driver.forked or not isinstance(error, ConnectionError):
            return error.__cause__
        with self.driver.locked():
            while outer is not None:
                if outer.link.dead and not outer.link.freed:
                    lost = outer
                outer = outer.outer
            if lost is None:
                return error.__cause__
            death = lost.link.death()
        if lost.outer is None:
            death = lost._explained(death)
        return death.at(lost.hop, lost.place.index, lost.place.phase)

    def probe(self, keepalive: Keepalive) -> bool:
        """One beat of the keepalive; False: there is nothing to tend any more."""
        if self.closed or self.driver.forked:
            return False
        with self.driver.fresh():
            alive = not self.link.freed and keepalive.probe(self.link)
        return alive

    def end(self) -> None:
        """End this session and the bastions made for it; waits for no peer."""
        if self.closed:
            return
        self.closed = True
        self.driver.end(self.link)
        if self.keepalive:
            self.untend()
        if self.outer is not None and self.owned:
            self.outer.end()

    def collect(self) -> None:
        """`end` for finalizers: waits for no lock."""
        if self.closed:
            return
        self.closed = True
        self.driver.collect(self.link)
        if self.outer is not None and self.owned:
            self.outer.collect()


class Way(Generic[H, AnyDriver]):
    """A connection in the making.

    A driver makes one, calls `load`, gets the first hop's stream unless there is
    a bastion, calls `start_in`, runs `bring_up` on the tree, and takes `arrived`; or,
    if anything raises, what `failed` gives, after `undo`.
    """

    def __init__(
        self,
        make: Callable[..., H],
        hops: Sequence[Options],
        bastion: H | None,
    ) -> None:
        self._make = make
        self._bastion = bastion
        self.driver: AnyDriver | None = bastion.driver if bastion is not None else None
        self.stages = plan(hops, 0 if bastion is None else bastion.place.index + 1)
        self.story = current_story(monotonic)
        if self.story is not None:
            self._begin_story(self.story)
        self._hops: list[H] = []
        self.servers: list[Server] = []
        server = bastion.server if bastion is not None else None
        for options in hops:
            server = server_of(options, server)
            self.servers.append(server)
        self._files = tuple([known_hosts(options) for options in hops])

    def _begin_story(self, story: Story) -> None:
        outer: Hop[AnyDriver] | None = self._bastion
        if outer is not None:
            with outer.driver.locked():
                while outer is not None:
                    if not outer.closed and not outer.link.freed:
                        story.met(outer.hop, outer.place.index, outer.link)
                    outer = outer.outer
        for stage in self.stages:
            place = stage.place
            place.story = story.hop(place.hop, place.index, stage.options)

    def is_loaded(self, asked: float = NEVER) -> bool:
        """`load`, where somebody has read the files since `asked`; False: call that."""
        for stage, files in zip(self.stages, self._files, strict=True):
            known = files.cached(asked)
            if known is None:
                return False
            stage.known = recorded_in(known, stage.options)
        return True

    def files(self) -> tuple[object, ...]:
        """What `load` reads; equal for ways that read the same."""
        return self._files

    def load(self, seconds_left: float | None = None) -> None:
        """Read what is recorded of host keys; reads files, which may hang."""
        for stage, files in zip(self.stages, self._files, strict=True):
            try:
                known = one_at_a_time(files, files.load, seconds_left)
                stage.known = recorded_in(known, stage.options)
            except HusshError as error:
                raise stage.place.mark(error) from error.__cause__
            if stage.options.private_key:  # so that its login need not ask, too
                KeyFile.look_again(stage.options.private_key, stage.options.password)

    def start_in(self, driver: AnyDriver) -> None:
        """The first hop's stream is there."""
        self.driver = driver
        self.stages[0].begin(driver.root)

    def bring_up(self) -> Op[None]:
        """All hops, one after the other."""
        return bring_up(self.stages, self._carrier(0), ask_agent)

    def bring_up_one(self, index: int) -> Op[None]:
        """One hop; those before it are up."""
        return bring_up([self.stages[index]], self._carrier(index), ask_agent)

    def _carrier(self, index: int) -> tuple[Link, Place] | None:
        if index:
            before = self.stages[index - 1]
            assert before.link is not None  # noqa: S101  (it is up)
            return before.link, before.place
        if self._bastion is None:
            return None
        self.stages[0].place.enter("channel")
        self._bastion.check_open()
        return self._bastion.link, self._bastion.place

    def take_back(self, index: int) -> AnyDriver | None:
        """End the last hop that was begun, so that it can be begun again; those before it stay.

        Returns the tree that ended with it, if it was the root.
        """
        hops = self.hops()
        if len(hops) > index:
            hop = hops.pop()
            hop.owned = False
            hop.end()
        self.stages[index].link = None
        if index or self._bastion is not None:
            return None
        driver, self.driver = self.driver, None
        return driver

    @property
    def current(self) -> Stage:
        """The stage that is being brought up."""
        begun = [
            stage
            for stage in self.stages
            if stage.link is not None or stage.place.phase in ("queue", "channel")
        ]
        return begun[-1] if begun else self.stages[0]

    def hops(self) -> list[H]:
        """Those that have a link, in the order of travel."""
        for stage in self.stages[len(self._hops) :]:
            if stage.link is None or self.driver is None:
                break
            outer = self._hops[-1] if self._hops else self._bastion
            owned = outer is not self._bastion
            hop = self._make(self.driver, stage.link, stage.place, outer, owned=owned)
            hop.server = self.servers[len(self._hops)]
            self._hops.append(hop)
        return self._hops

    def arrived(self) -> H:
        """The target's hop, once all are up."""
        hops = self.hops()
        for stage, hop in zip(self.stages, hops, strict=True):
            if stage.options.keepalive_interval:
                hop.keepalive = True
                hop.tend(stage.options.keepalive_interval)
        return hops[-1]

    def failed(self, error: HusshError | DeadlineExceeded, time_limit: str) -> HusshError:
        """What to raise; `time_limit` is how it words that limit.  Waits as `Hop.failed`."""
        stage = self.current
        if isinstance(error, DeadlineExceeded):
            if self.driver is not None and stage.link is self.driver.root:
                error.program_text = self.driver.program_text()
            return timed_out(stage.place, error, time_limit)
        hops = self.hops()
        at = hops[-1] if hops else self._bastion
        if at is not None:
            return at.failed(error, stage.place.phase)
        return stage.place.mark(error)

    def undo(self) -> None:
        """End the hops that were made, the innermost first."""
        for hop in reversed(self.hops()):
            hop.owned = False
            hop.end()
