"""The limiter stepped by hand: order, limits, what refusals teach; no event loop, no server."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hussh._connect.handshake_limits import (
    BAN_PAUSE,
    HANDSHAKES,
    LAG,
    PAUSE,
    PROBE_ROUNDS,
    TRIES,
    HandshakeLimiter,
    Permit,
    Server,
    Statistics,
    get_server,
)
from hussh._policy.options import Options
from hussh.errors import ServerBusy

BASTION = Server(None, "bastion", 22)
OTHER = Server(None, "other", 22)
BUSY = ServerBusy("busy", server_text="Exceeded MaxStartups")
BANNED = ServerBusy("busy", server_text="Not allowed at this time", may_be_ban=True)


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def paced(limit: int = HANDSHAKES, clock: Callable[[], float] | None = None) -> HandshakeLimiter:
    """Make a limiter without chance in it."""
    return HandshakeLimiter(limit, clock=clock or Clock(), jitter=lambda: 0.0)


def at(limiter: HandshakeLimiter, server: Server = BASTION) -> Statistics:
    """Return what happened at a server."""
    return limiter.get_statistics()[server]


def granted(permits: list[Permit]) -> list[int]:
    """Return which of these turns are granted."""
    return [number for number, permit in enumerate(permits) if permit.granted]


def burst(
    limiter: HandshakeLimiter, taken: int, count: int, busy: ServerBusy = BUSY
) -> list[Permit]:
    """Let so many begin, of which the server takes the first few; returns all, refused last."""
    permits = [limiter.make_permit(BASTION) for _ in range(count)]
    for permit in permits[taken:]:
        permit.note_refusal(busy)
    return permits


def test_first_come_first_served() -> None:
    """Turns are granted in the order in which they were made, never more than the limit."""
    limiter = paced(3)
    permits = [limiter.make_permit(BASTION) for _ in range(10)]
    assert granted(permits) == [0, 1, 2]
    permits[1].note_success()
    assert granted(permits) == [0, 2, 3]
    permits[0].give_back()
    permits[2].give_back()
    assert granted(permits) == [3, 4, 5]
    assert at(limiter) == (3, 3, 4, 3, 6, 1, 0)


def test_a_turn_given_up_while_waiting() -> None:
    """Who gives up in the queue is passed over, and counts no more."""
    limiter = paced(1)
    permits = [limiter.make_permit(BASTION) for _ in range(4)]
    permits[1].give_back()
    permits[1].give_back()
    assert at(limiter).waiting == 2
    permits[0].give_back()
    assert granted(permits) == [2]
    permits[2].give_back()
    permits[2].give_back()
    assert granted(permits) == [3]
    permits[3].note_success()
    permits[3].give_back()
    assert at(limiter)[1:3] == (0, 0)


def test_each_server_for_itself() -> None:
    """A full server keeps nobody from another."""
    limiter = paced(1)
    assert [limiter.make_permit(BASTION).granted, limiter.make_permit(BASTION).granted] == [
        True,
        False,
    ]
    assert limiter.make_permit(OTHER).granted


def test_who_is_the_same_server() -> None:
    """Host, port and the way there make a server; who logs in, and the case of names, do not."""

    def server(host: str, port: int, user: str, via: Server | None = None) -> Server:
        return get_server(Options(host, port, user), via)

    one, two = server("one", 22, "alice"), server("two", 22, "alice")
    assert server("ONE", 22, "bob") == one != server("one", 23, "alice")
    assert server("target", 22, "alice", one) == server("target", 22, "bob", server("One", 22, "x"))
    assert server("target", 22, "alice", one) != server("target", 22, "alice", two)
    piped = get_server(Options("one", 22, "alice", proxy_command=("nc", "one", "22")), None)
    assert piped == get_server(Options("one", 22, "bob", proxy_command=("nc", "one", "22")), None)
    assert piped != one
    assert piped != get_server(Options("one", 22, "bob", proxy_command=("socat", "-")), None)


def test_wake() -> None:
    """A turn that waits is woken when it is granted, and one that does not wait is not."""
    limiter = paced(1)
    woken: list[int] = []
    permits = [limiter.make_permit(BASTION) for _ in range(3)]
    for number, permit in enumerate(permits):
        permit.wake = lambda number=number: woken.append(number)
    permits[0].give_back()
    permits[1].give_back()
    assert woken == [1, 2]


def test_a_burst_counts_once() -> None:
    """Of all refusals of one burst only the first halves the limit."""
    limiter = paced(8)
    burst(limiter, 3, 8)
    assert at(limiter) == (4, 3, 0, 8, 8, 0, 5)


def test_learns_what_the_server_takes() -> None:
    """With a server that takes three, refusals become rare: one in many rounds."""
    clock = Clock()
    limiter = paced(8, clock)
    waiting = [limiter.make_permit(BASTION) for _ in range(8)]
    refusals: list[int] = []
    authenticated = 0
    while authenticated < 400:
        going = [permit for permit in waiting if permit.granted]
        assert going
        clock.now += max(permit.get_pause() for permit in going)
        for permit in going[3:]:
            permit.note_refusal(BUSY)
            refusals.append(authenticated)
            permit.ask()
        for permit in going[:3]:
            permit.note_success()
            waiting.remove(permit)
            authenticated += 1
            waiting.append(limiter.make_permit(BASTION))
    early = [when for when in refusals if when < 20]
    assert len(early) <= 7
    assert len(refusals) - len(early) <= 400 // (3 * PROBE_ROUNDS)
    assert 3 <= at(limiter).limit <= 4


def test_recovers() -> None:
    """When the server takes all again, the limit grows back to what was asked for, not beyond."""
    limiter = paced(4)
    taken = burst(limiter, 2, 4)[:2]
    assert at(limiter).limit == 2
    for permit in taken:
        permit.note_success()
    assert at(limiter).limit == 3  # below what was refused it grows with each round
    for _ in range(8 * PROBE_ROUNDS * 4):
        limiter.make_permit(BASTION).note_success()
    assert at(limiter).limit == 4


def test_a_refused_turn_keeps_its_place() -> None:
    """Who was refused goes before all that came after him."""
    limiter = paced(1)
    permits = [limiter.make_permit(BASTION) for _ in range(4)]
    permits[0].note_refusal(BUSY)
    permits[0].ask()
    assert granted(permits) == [1]  # it was free for a moment
    permits[1].give_back()
    assert granted(permits) == [0]


def test_pauses_grow_until_somebody_gets_in() -> None:
    """Each burst of refusals doubles the pause, up to a bound; a success begins anew."""
    clock = Clock()
    limiter = paced(8, clock)
    pauses = []
    for _ in range(12):
        permit = burst(limiter, 0, 1)[0]
        permit.ask()
        pauses.append(permit.get_pause())
        clock.now += permit.get_pause()
        assert permit.get_pause() == 0
        permit.give_back()
    assert pauses[:4] == pytest.approx([PAUSE[0] * 2**n for n in range(4)])
    assert pauses[-1] == pytest.approx(PAUSE[1])
    limiter.make_permit(BASTION).note_success()
    permit = burst(limiter, 0, 1)[0]
    permit.ask()
    assert permit.get_pause() == pytest.approx(PAUSE[0])


def test_hopeless() -> None:
    """After so many bursts without success waiting is hopeless, until the last pause is over."""
    clock = Clock()
    limiter = paced(8, clock)
    for number in range(TRIES):
        permit = burst(limiter, 0, 1)[0]
        assert permit.hopeless == (number == TRIES - 1)
        clock.now += permit.get_pause()
    assert not limiter.make_permit(BASTION).hopeless


def test_jitter_spreads_who_waited() -> None:
    """Those who wait for the end of a pause do not all begin in the same moment."""
    draws = iter([0.0, 0.0, 0.25, 0.75])
    limiter = HandshakeLimiter(2, clock=Clock(), jitter=lambda: next(draws))
    permits = burst(limiter, 0, 2)
    first, second = permits[0], permits[1]
    first.ask()
    assert first.get_pause() == pytest.approx(PAUSE[0] * 1.25)
    first.note_success()
    second.ask()
    assert second.get_pause() == pytest.approx(PAUSE[0] * 1.75)


def test_longer_pauses_for_what_may_be_a_ban() -> None:
    """The words of a ban bring long pauses, unless others of ours got in at the same time."""
    for taken, bounds in ((0, BAN_PAUSE), (1, PAUSE)):
        limiter = paced()
        permit = burst(limiter, taken, taken + 1, BANNED)[-1]
        permit.ask()
        assert permit.get_pause() == pytest.approx(bounds[0])


def test_a_login_counts_for_a_moment_longer() -> None:
    """Who comes right after a login that was not seen to be over for the server waits a little."""
    clock = Clock()
    limiter = paced(3, clock)
    limiter.make_permit(BASTION).note_success()
    permit = limiter.make_permit(BASTION)
    assert permit.get_pause() == pytest.approx(LAG)
    clock.now += LAG
    assert permit.get_pause() == 0
    permit.confirmed = True
    permit.note_success()
    assert limiter.make_permit(BASTION).get_pause() == 0


def test_refusing() -> None:
    """What a server said last is known until it lets somebody in."""
    limiter = paced()
    first, second = limiter.make_permit(BASTION), limiter.make_permit(BASTION)
    assert not first.refusing
    first.note_refusal(BUSY)
    assert second.refusing
    assert second.server_text == "Exceeded MaxStartups"
    second.note_success()
    assert not first.refusing


def test_alone() -> None:
    """The only turn so far that a server has seen is alone, and the first of several is not."""
    limiter = paced(1)
    first = limiter.make_permit(BASTION)
    assert first.alone
    second = limiter.make_permit(BASTION)
    assert not first.alone
    first.give_back()
    assert not second.alone
    assert limiter.make_permit(OTHER).alone


@pytest.mark.parametrize("wrong", [0, -1, True, 2.0, "8", None])
def test_limit_is_checked(wrong: object) -> None:
    """A limit that is no positive integer is refused at once."""
    with pytest.raises((TypeError, ValueError), match="handshakes must be"):
        HandshakeLimiter(wrong)  # type: ignore[arg-type]


def test_a_finalizer_may_give_back() -> None:
    """A turn can be given back in the midst of any call of the same limiter."""
    limiter = paced(1)
    permits = [limiter.make_permit(BASTION) for _ in range(4)]

    class Careless:
        def __del__(self) -> None:
            permits[1].give_back()

    def wake() -> None:  # called with the lock held
        careless: list[object] = [Careless()]
        careless.append(careless)
        del careless
        gc.collect()

    permits[1].wake = wake
    permits[0].give_back()
    assert granted(permits) == [2]
    assert at(limiter)[1:3] == (1, 1)


def test_given_back_before_it_was_in_the_queue() -> None:
    """A turn that asks and gives back while the limiter is at work leaves nobody waiting."""
    limiter = paced(1)
    first, second = limiter.make_permit(BASTION), limiter.make_permit(BASTION)
    second.wake = lambda: limiter.make_permit(BASTION).give_back()  # called with the lock held
    first.give_back()
    assert second.granted
    assert at(limiter)[1:3] == (1, 0)


def test_threads() -> None:
    """Of many threads that take turns, never more than the limit hold one, and each gets its."""
    limiter = HandshakeLimiter(3)
    inside = 0
    most = 0
    done = 0
    count = threading.Lock()

    def work() -> None:
        nonlocal inside, most, done
        for number in range(200):
            permit = limiter.make_permit(BASTION)
            event = threading.Event()
            permit.wake = event.set
            if not permit.granted:
                assert event.wait(60)
            with count:
                inside += 1
                most = max(most, inside)
            with count:
                inside -= 1
                done += 1
            permit.note_success() if number % 2 else permit.give_back()

    threads = [threading.Thread(target=work) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert (done, most <= 3) == (1600, True)
    seen = at(limiter)
    assert (seen.in_flight, seen.waiting, seen.granted) == (0, 0, 1600)
    assert seen.peak <= 3


class Machine(RuleBasedStateMachine):
    """Any sequence of what users do, beside a model that knows order and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.limit = 4
        self.limiter = HandshakeLimiter(self.limit, clock=self.clock)
        self.permits: dict[Permit, int] = {}  # those not over, with their numbers
        self.woken: set[Permit] = set()
        self.made = 0

    @rule()
    def come(self) -> None:
        permit = self.limiter.make_permit(BASTION)
        self.wait(permit)
        self.permits[permit] = self.made
        self.made += 1

    def wait(self, permit: Permit) -> None:
        permit.wake = lambda: self.woken.add(permit)
        if permit.granted:
            self.woken.add(permit)

    def pick(self, data: st.DataObject, *, which: bool | None = None) -> Permit:
        permits = [permit for permit in self.permits if which is None or permit.granted == which]
        return data.draw(st.sampled_from(permits))

    @precondition(lambda self: any(permit.granted for permit in self.permits))
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        permit = self.pick(data, which=True)
        permit.note_success()
        del self.permits[permit]

    @precondition(lambda self: any(permit.granted for permit in self.permits))
    @rule(data=st.data(), busy=st.sampled_from([BUSY, BANNED]), again=st.booleans())
    def refuse(self, data: st.DataObject, busy: ServerBusy, again: bool) -> None:
        permit = self.pick(data, which=True)
        self.woken.discard(permit)
        permit.note_refusal(busy)
        if again:
            permit.ask()
            self.wait(permit)
        else:
            permit.give_back()
            del self.permits[permit]

    @precondition(lambda self: self.permits)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        permit = self.pick(data)
        permit.give_back()
        del self.permits[permit]

    @rule(seconds=st.floats(0, 100))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def limits_hold(self) -> None:
        if not self.made:
            return
        seen = at(self.limiter)
        holding = sum(permit.granted for permit in self.permits)
        assert seen.in_flight == holding <= self.limit
        assert seen.waiting == len(self.permits) - holding
        assert 1 <= seen.limit <= self.limit
        assert seen.peak <= self.limit

    @invariant()
    def nobody_waits_while_there_is_room(self) -> None:
        if self.made:
            seen = at(self.limiter)
            assert not seen.waiting or seen.in_flight >= seen.limit

    @invariant()
    def the_granted_were_woken(self) -> None:
        assert {permit for permit in self.permits if permit.granted} <= self.woken

    @invariant()
    def pauses_are_bounded(self) -> None:
        assert all(0 <= permit.get_pause() <= 2 * BAN_PAUSE[1] for permit in self.permits)


Machine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestMachine = Machine.TestCase


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=60), st.integers(1, 5))
def test_order_is_kept(ends: list[int], limit: int) -> None:
    """Whoever ends when, turns are granted in the order of their making."""
    limiter = paced(limit)
    order: list[int] = []
    open_permits: list[Permit] = []
    for number, end in enumerate(ends):
        permit = limiter.make_permit(BASTION)
        if permit.granted:
            order.append(number)
        else:
            permit.wake = lambda number=number: order.append(number)
        open_permits.append(permit)
        holding = [one for one in open_permits if one.granted]
        for one in holding[:end]:
            one.note_success()
            open_permits.remove(one)
    assert order == sorted(order)
    assert len(order) == len(ends) - sum(not permit.granted for permit in open_permits)
