"""Waiting for turns in event loops: cancellation, time limits, several loops; no server."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable
from time import monotonic

import anyio
import pytest

from hussh._connect import async_handshake_limits
from hussh._connect import handshake_limits as limits_module
from hussh._connect.async_handshake_limits import with_permit
from hussh._connect.handshake_limits import TRIES, HandshakeLimiter, Permit, Server, Statistics
from hussh._policy.options import Options
from hussh._protocol.core import DeadlineExceeded
from hussh._protocol.handshake import HopAttempt
from hussh.errors import AuthenticationError, ConnectTimeout, HusshError, Phase, ServerBusy

BASTION = Server(None, "bastion", 22)


def busy() -> ServerBusy:
    """Make the error of a refused handshake."""
    return ServerBusy("too busy", server_text="Exceeded MaxStartups", phase="banner")


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pauses short."""
    monkeypatch.setattr(limits_module, "PAUSE", (0.001, 0.002))


class Hop:
    """One hop whose attempts do as the test says, and what became of it."""

    def __init__(
        self,
        limiter: HandshakeLimiter,
        attempt: Callable[[], Awaitable[None]],
        seconds: float | None = None,
    ) -> None:
        self.limiter = limiter
        self.attempt = attempt
        self.seconds = seconds
        self.hop = HopAttempt.to(Options("bastion", 22, "alice"), 0)
        self.attempts = self.taken_back = 0
        self.noted: list[int] = []

    async def run(self) -> None:
        async def attempt(permit: Permit) -> None:
            self.attempts += 1
            permit.confirmed = True
            self.hop.enter(Phase.BANNER)
            await self.attempt()

        async def take_back() -> None:
            self.taken_back += 1

        await with_permit(
            self.limiter,
            BASTION,
            self.hop,
            None if self.seconds is None else monotonic() + self.seconds,
            f" after {self.seconds} s",
            attempt,
            take_back,
            lambda error: self.noted.append(error.tries),
        )


def at(limiter: HandshakeLimiter) -> Statistics:
    """Return what happened at the server."""
    return limiter.get_statistics()[BASTION]


def failing(*errors: HusshError | None) -> Callable[[], Awaitable[None]]:
    """Make attempts that fail with these errors in turn, the last one for ever."""
    left = list(errors)

    async def attempt() -> None:
        error = left.pop(0) if len(left) > 1 else left[0]
        if error is not None:
            raise error

    return attempt


async def wait_for(limiter: HandshakeLimiter, waiting: int) -> None:
    """Let other tasks run until so many wait for a turn."""
    with anyio.fail_after(20):
        while at(limiter).waiting != waiting:
            await anyio.lowlevel.checkpoint()


async def test_a_refused_attempt_is_tried_again(loop: str, brief: None) -> None:
    """Refusals are undone and tried again until one succeeds; each is told."""
    hop = Hop(HandshakeLimiter(2), failing(busy(), busy(), busy(), None))
    await hop.run()
    assert (hop.attempts, hop.taken_back, hop.noted) == (4, 3, [1, 2, 3])
    seen = at(hop.limiter)
    assert (seen.in_flight, seen.waiting, seen.authenticated, seen.refused) == (0, 0, 1, 3)


async def test_other_failures_are_not(loop: str) -> None:
    """An error that is no refusal is raised from the first attempt, and the turn given back."""
    hop = Hop(HandshakeLimiter(1), failing(AuthenticationError("no"), None))
    with pytest.raises(AuthenticationError):
        await hop.run()
    assert (hop.attempts, hop.taken_back) == (1, 0)
    assert at(hop.limiter)[1:3] == (0, 0)


async def test_without_a_limit_of_time(loop: str, brief: None) -> None:
    """Without a time-out a bounded number of tries is made; the error says how many."""
    hop = Hop(HandshakeLimiter(1), failing(busy()))
    with pytest.raises(ServerBusy, match=f"after {TRIES} tries") as caught:
        await hop.run()
    assert caught.value.tries == hop.attempts == TRIES
    assert at(hop.limiter)[1:3] == (0, 0)


async def test_without_a_limit_of_time_all_give_up(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that refuses all is not tried so often by each: all give up together."""
    monkeypatch.setattr(limits_module, "PAUSE", (0.01, 0.1))
    limiter = HandshakeLimiter(2)
    hops = [Hop(limiter, failing(busy())) for _ in range(50)]
    errors: list[ServerBusy] = []

    async def run(hop: Hop) -> None:
        with pytest.raises(ServerBusy) as caught:
            await hop.run()
        errors.append(caught.value)

    async with anyio.create_task_group() as group:
        for hop in hops:
            group.start_soon(run, hop)
    assert len(errors) == 50
    assert sum(hop.attempts for hop in hops) <= 2 * TRIES
    untried = [error for error in errors if not error.tries]
    assert len(untried) >= 40
    assert "it refused others, saying: Exceeded MaxStartups" in str(untried[0])
    assert at(limiter)[1:3] == (0, 0)


async def test_when_time_is_over(loop: str) -> None:
    """A time-out while the server refuses is a ServerBusy with its tries, because of a time-out."""
    hop = Hop(HandshakeLimiter(1), failing(busy()), 0.4)
    with pytest.raises(ServerBusy) as caught:
        await hop.run()
    error = caught.value
    assert error.tries == hop.attempts >= 1
    assert error.server_text == "Exceeded MaxStartups"
    assert isinstance(error.__cause__, ConnectTimeout)
    assert at(hop.limiter)[1:3] == (0, 0)


async def test_when_time_is_over_after_others_were_refused(loop: str) -> None:
    """Who had no turn because of a server that refused others is told that."""
    limiter = HandshakeLimiter(1)
    other = limiter.make_permit(BASTION)
    other.note_refusal(busy())
    other.ask()
    hop = Hop(limiter, failing(None), 0.02)
    with pytest.raises(ServerBusy, match="refused others, saying: Exceeded") as caught:
        await hop.run()
    assert (caught.value.tries, hop.attempts) == (0, 0)
    assert caught.value.hop == "alice@bastion:22"
    other.give_back()


async def test_when_time_is_over_and_nobody_was_refused(loop: str) -> None:
    """A server that refused nobody is not called busy: it is a plain time-out."""
    limiter = HandshakeLimiter(1)
    other = limiter.make_permit(BASTION)
    hop = Hop(limiter, failing(None), 0.02)
    with pytest.raises(DeadlineExceeded):
        await hop.run()
    assert hop.hop.phase is Phase.QUEUE
    other.give_back()
    assert at(limiter)[1:3] == (0, 0)


async def test_late_in_a_later_phase(loop: str, brief: None) -> None:
    """A time-out after the server took the handshake is a time-out, whatever was before."""
    refusals = 2

    async def attempt() -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise busy()
        hop.hop.enter(Phase.KEX)
        raise DeadlineExceeded

    hop = Hop(HandshakeLimiter(1), attempt, 30)
    with pytest.raises(DeadlineExceeded):
        await hop.run()
    assert hop.attempts == 3


async def test_cancelled_while_waiting(loop: str) -> None:
    """Who is cancelled in the queue leaves it, and nobody waits for him."""
    limiter = HandshakeLimiter(1)
    first = limiter.make_permit(BASTION)
    hops = [Hop(limiter, failing(None)) for _ in range(4)]
    scopes = [anyio.CancelScope() for _ in hops]

    async def run(number: int) -> None:
        with scopes[number]:
            await hops[number].run()

    async with anyio.create_task_group() as group:
        for number in range(len(hops)):
            group.start_soon(run, number)
        await wait_for(limiter, 4)
        scopes[0].cancel()
        scopes[2].cancel()
        await wait_for(limiter, 2)
        first.give_back()
    assert [hop.attempts for hop in hops] == [0, 1, 0, 1]
    assert at(limiter)[1:4] == (0, 0, 1)


@pytest.mark.parametrize("when", ["pause", "attempt", "take back"])
async def test_cancelled_later(loop: str, when: str) -> None:
    """Cancelled in a pause, an attempt or its undoing, the turn goes to the next at once."""
    limiter = HandshakeLimiter(1)
    scope = anyio.CancelScope()
    reached = anyio.Event()

    async def attempt() -> None:
        if when == "attempt":
            reached.set()
            await anyio.sleep_forever()
        raise busy()

    async def take_back() -> None:
        reached.set()
        if when == "take back":
            await anyio.sleep_forever()

    async def run() -> None:
        with scope:
            await with_permit(limiter, BASTION, HopAttempt.to(Options("b", 22, "a"), 0), None, "",
                          lambda permit: attempt(), take_back, lambda error: None)  # fmt: skip

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await reached.wait()
        scope.cancel()
    assert at(limiter)[1:3] == (0, 0)
    await Hop(limiter, failing(None)).run()


async def test_granted_and_cancelled_at_once(loop: str) -> None:
    """A turn that is granted in the moment of cancellation is not lost."""
    for _ in range(20):
        limiter = HandshakeLimiter(1)
        first = limiter.make_permit(BASTION)
        scope = anyio.CancelScope()

        async def run() -> None:
            with scope:  # noqa: B023
                await Hop(limiter, failing(None)).run()  # noqa: B023

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await wait_for(limiter, 1)
            first.give_back()
            scope.cancel()
        assert at(limiter)[1:3] == (0, 0)


async def test_five_hundred_one_by_one(loop: str) -> None:
    """With a limit of one, five hundred come one after the other, in order, and no two at once."""
    limiter = HandshakeLimiter(1)
    order: list[int] = []
    inside = 0

    def attempt_of(number: int) -> Callable[[], Awaitable[None]]:
        async def attempt() -> None:
            nonlocal inside
            inside += 1
            assert inside == 1
            await anyio.lowlevel.checkpoint()
            inside -= 1
            order.append(number)

        return attempt

    first = limiter.make_permit(BASTION)
    async with anyio.create_task_group() as group:
        for number in range(500):
            group.start_soon(Hop(limiter, attempt_of(number)).run)
            await wait_for(limiter, number + 1)
        first.give_back()
    assert order == list(range(500))
    assert at(limiter)[1:4] == (0, 0, 1)


def test_loops_in_several_threads(brief: None) -> None:
    """Loops of both kinds in four threads share a limiter: all get their turns, never too many."""
    limiter = HandshakeLimiter(3)
    lock = threading.Lock()
    inside = most = 0
    failures: list[BaseException] = []
    ready = threading.Barrier(4)

    async def attempt() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        await anyio.lowlevel.checkpoint()
        with lock:
            inside -= 1

    async def main() -> None:
        ready.wait(20)
        async with anyio.create_task_group() as group:
            for number in range(50):
                errors = [busy()] * (number % 10 == 0)
                refused = failing(*errors, None)

                async def both(refused: Callable[[], Awaitable[None]] = refused) -> None:
                    await attempt()
                    await refused()

                group.start_soon(Hop(limiter, both, 60).run)

    def run(backend: str) -> None:
        try:
            anyio.run(main, backend=backend)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(kind,)) for kind in ("asyncio", "trio") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    seen = at(limiter)
    assert (seen.authenticated, seen.refused, seen.in_flight, seen.waiting) == (200, 20, 0, 0)
    assert 1 < most <= seen.peak <= 3


async def test_a_loop_that_ended_keeps_no_turn(loop: str) -> None:
    """When a loop in another thread ends with tasks in the queue, their places are free."""
    limiter = HandshakeLimiter(1)
    first = limiter.make_permit(BASTION)

    async def leave() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(Hop(limiter, failing(None)).run)
            await wait_for(limiter, 3)
            group.cancel_scope.cancel()

    def run() -> None:
        with contextlib.suppress(Exception):
            anyio.run(leave, backend=loop)

    thread = threading.Thread(target=run)
    thread.start()
    await anyio.to_thread.run_sync(thread.join)
    assert at(limiter).waiting == 0
    first.give_back()
    await Hop(limiter, failing(None)).run()


def test_phases_are_known() -> None:
    """All that counts as not heard of yet is a phase that a time-out can word."""
    from hussh._protocol.connect import PHASES

    assert set(async_handshake_limits.UNHEARD) < set(PHASES)
