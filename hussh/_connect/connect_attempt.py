"""`ConnectAttempt`: a connection that is being made, hop by hop; what the drivers share of it.

`connect.py` and `async_connect.py` make one for each connection. It says what is to be done, which
error tells of a failure, and it undoes what was half made. It opens no stream itself, and waits
only where `make_error` says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from time import monotonic
from typing import Any, Generic, NoReturn, TypeVar, cast

from .._native.link import Link
from .._policy.endpoint import Endpoint
from .._policy.file_cache import NEVER, KeyFile
from .._policy.options import Options
from .._policy.server_memory import get_memory
from .._protocol.connect import bring_up, make_timeout_error
from .._protocol.core import DeadlineExceeded, Op
from .._protocol.handshake import HopAttempt, HopState
from .._protocol.host_key_check import get_known_hosts, look_up_recorded
from .._protocol.offered_algorithms import are_algorithms_loaded, load_algorithms
from .._protocol.story import Story, get_current_story
from .._runtime.keepalive import MISSES, Keepalive, NewKeys
from .._runtime.single_flight import one_at_a_time
from .._runtime.workers import run_in_worker
from ..errors import HusshError, Phase
from .agent_socket import ask_agent
from .handshake_limits import Server, get_server
from .hop import AnyDriver, Hop
from .proxy_command import describe_proxy

__all__ = ["ConnectAttempt", "get_noted_place", "raise_shown"]

#: Attribute of an exception that a function of the user's has raised.
_PLACE = "_hussh_place"

H = TypeVar("H", bound=Hop[Any])


class ConnectAttempt(Generic[H, AnyDriver]):
    """A connection that is being made.

    A driver makes one, calls `load`, gets the first hop's stream unless there is a bastion, calls
    `start_in`, runs `bring_up` on the tree, and takes `take_target`. If anything raises, it calls
    `undo` and raises what `make_error` returns.

    Attributes:
        hops: each hop that is to be connected, with its state; the target is the last.
        driver: the driver of the tree that they are in, once there is one.
    """

    def __init__(
        self,
        make: Callable[..., H],
        hops: Sequence[Options],
        bastion: H | None,
    ) -> None:
        self._make = make
        self._bastion = bastion
        #: What the user gave as `stream=`, until it has an owner here.
        self.given: Any = None if bastion is not None else hops[0].settings["stream"]
        self.driver: AnyDriver | None = bastion.driver if bastion is not None else None
        first = 0 if bastion is None else bastion.endpoint.index + 1
        self.hops = [HopAttempt.to(options, index) for index, options in enumerate(hops, first)]
        self._made: list[H] = []
        for hop, server in zip(self.hops, self.servers, strict=True):
            hop.memory = get_memory(server)
            hop.is_target = hop is self.hops[-1]
        self.story = get_current_story(monotonic)
        if self.story is not None:
            self._begin_story(self.story)

    def _begin_story(self, story: Story) -> None:
        outer: Hop[AnyDriver] | None = self._bastion
        if outer is not None:
            with outer.driver.locked():
                while outer is not None:
                    if not outer.closed and not outer.link.freed:
                        story.note_met(outer.hop, outer.endpoint.index, outer.link)
                    outer = outer.outer
        for hop in self.hops:
            hop.story = story.begin_hop(hop.endpoint.hop, hop.endpoint.index, hop.options)

    @cached_property
    def servers(self) -> list[Server]:
        """The server of each hop's login, for the limits of handshakes."""
        server = self._bastion.server if self._bastion is not None else None
        servers = []
        for hop in self.hops:
            server = get_server(hop.options, server)
            servers.append(server)
        return servers

    # -- what is recorded of host keys

    @cached_property
    def files(self) -> tuple[Any, ...]:
        """Return the files that `load` reads; equal for attempts that read the same."""
        return tuple([get_known_hosts(hop.options) for hop in self.hops])

    def is_loaded(self, asked: float = NEVER) -> bool:
        """Load as `load` does if somebody has read the files since `asked`; else return False."""
        for hop, files in zip(self.hops, self.files, strict=True):
            known = files.get_cached(asked)
            if known is None or not are_algorithms_loaded(hop.options):
                return False
            hop.known = look_up_recorded(known, hop.options)
        return True

    def load(self, seconds_left: float | None = None) -> None:
        """Load algorithms and read what is recorded of host keys; files may hang."""
        for hop, files in zip(self.hops, self.files, strict=True):
            try:
                algorithms = partial(load_algorithms, hop.options)
                if are_algorithms_loaded(hop.options):
                    algorithms()
                else:  # CPython up to 3.11 never finishes an import that Ctrl-C cut short
                    run_in_worker(algorithms)
                known = one_at_a_time(files, files.load, seconds_left)
                hop.known = look_up_recorded(known, hop.options)
            except HusshError as error:
                raise hop.mark(error) from error.__cause__
            for key in hop.options.keys:  # so that its login need not ask, too
                if key.path is not None:
                    KeyFile.look_again(key.path, hop.options.password)

    # -- bringing up

    def begin_proxy(self) -> tuple[str, ...] | None:
        """Return the argv of the program that has to be started for the first hop; None to dial."""
        first = self.hops[0]
        if first.options.proxy_command is not None:
            first.enter(Phase.PROXY)
        return first.options.proxy_command

    def note_proxy_began(self) -> None:
        """Note that the program runs."""
        story, argv = self.hops[0].story, self.hops[0].options.proxy_command
        if story is not None and argv is not None:
            story.note_carrier(*describe_proxy(argv))

    def start_in(self, driver: AnyDriver) -> None:
        """Take the tree over the first hop's stream."""
        self.driver = driver
        self.hops[0].begin(driver.root)

    def bring_up(self) -> Op[None]:
        """Bring up all hops, one after the other."""
        return bring_up(self.hops, self._find_carrier(0), ask_agent)

    def bring_up_one(self, index: int) -> Op[None]:
        """Bring up one hop; those before it are up."""
        return bring_up([self.hops[index]], self._find_carrier(index), ask_agent)

    def _find_carrier(self, index: int) -> tuple[Link, Endpoint] | None:
        if index:
            before = self.hops[index - 1]
            assert before.link is not None and before.state is HopState.UP  # noqa: S101, PT018
            return before.link, before.endpoint
        if self._bastion is None:
            return None
        self.hops[0].enter(Phase.CHANNEL)
        self._bastion.check_open()
        return self._bastion.link, self._bastion.endpoint

    def take_back(self, index: int) -> AnyDriver | None:
        """End the last hop that was begun, so that it can be begun again; those before it stay.

        Returns the tree that ended with it, if it was the root.
        """
        made = self.list_made()
        if len(made) > index:
            hop = made.pop()
            hop.owned = False
            hop.end()
        self.hops[index].link = None
        if index or self._bastion is not None:
            return None
        driver, self.driver = self.driver, None
        return driver

    # -- the end

    @property
    def current(self) -> HopAttempt:
        """The hop that is being brought up."""
        started = [hop for hop in self.hops if hop.state is not HopState.WAITING]
        return started[-1] if started else self.hops[0]

    def list_made(self) -> list[H]:
        """Return the sessions of the hops that have a link, in the order of travel."""
        for hop in self.hops[len(self._made) :]:
            if hop.link is None or self.driver is None:
                break
            outer = self._made[-1] if self._made else self._bastion
            owned = outer is not self._bastion
            session = self._make(self.driver, hop.link, hop.endpoint, outer, owned=owned)
            session.server = self.servers[len(self._made)]
            self._made.append(session)
        return self._made

    def take_target(self) -> H:
        """Return the target's session, once all hops are up."""
        made = self.list_made()
        for hop, session in zip(self.hops, made, strict=True):
            _tend(session, hop.options)
        return made[-1]

    def make_error(self, error: HusshError | DeadlineExceeded, time_limit: str) -> HusshError:
        """Return what to raise; `time_limit` is the limit as it words it.

        It waits as `Hop.make_error`.
        """
        hop = self.current
        if isinstance(error, DeadlineExceeded):
            if self.driver is not None and hop.link is self.driver.root:
                error.program_text = self.driver.program_text()
            return make_timeout_error(hop.endpoint, hop.phase, error, time_limit)
        made = self.list_made()
        at = made[-1] if made else self._bastion
        return hop.mark(error) if at is None else at.make_error(error, hop.phase)

    def note_place(self, error: Exception) -> None:
        """Note at which hop, and in which phase, a function of the user's has raised this."""
        hop = self.current
        with contextlib.suppress(AttributeError):  # of a class with slots
            setattr(error, _PLACE, (hop.endpoint, hop.phase))

    def may_try_again(self) -> bool:
        """Tell whether this failed only for what was opened early.

        That is not done again at this server. It is False if a user would be asked twice, and if
        the stream was given, because there is no second one.
        """
        if self.hops[0].options.settings["stream"] is not None:
            return False
        found = [hop.early for hop in self.hops if hop.early is not None]
        return any(early.ended_it for early in found) and not any(
            early.asked_user for early in found
        )

    def undo(self) -> None:
        """End the sessions that were made, the innermost first."""
        for session in reversed(self.list_made()):
            session.owned = False
            session.end()


def _tend(session: Hop[Any], options: Options) -> None:
    """Have done what an open session does at intervals."""
    keepalive, new_keys = options.keepalive_interval, options.settings["rekey_interval"]
    session.is_tended = bool(keepalive or new_keys)
    if keepalive:
        count = options.configured.keepalive_count
        misses = MISSES if count is None else max(1, count)
        session.tend(keepalive, partial(Keepalive, misses=misses))
    if new_keys:
        session.tend(cast(float, new_keys), NewKeys)


def get_noted_place(error: Exception) -> tuple[Endpoint, Phase] | None:
    """Return what `ConnectAttempt.note_place` has noted, or None."""
    place: tuple[Endpoint, Phase] | None = getattr(error, _PLACE, None)
    return place


def raise_shown(error: BaseException, shown: BaseException) -> NoReturn:
    """Raise what is shown in place of `error`, while that is being handled; it may be the same."""
    try:
        if isinstance(error, DeadlineExceeded):
            raise shown from None
        if isinstance(error, HusshError):
            raise shown from shown.__cause__
        raise error
    finally:
        del error, shown  # whose tracebacks hold this frame
