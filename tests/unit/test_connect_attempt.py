"""A connection in the making: its states, and which hop and phase its errors name.

Opens nothing.
"""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import hussh.errors
from hussh._connect.connect_attempt import ConnectAttempt
from hussh._native.constants import PHASES
from hussh._native.link import Link
from hussh._policy.endpoint import Endpoint
from hussh._policy.options import Options
from hussh._protocol.connect import PHASES as WORDED
from hussh._protocol.core import DeadlineExceeded
from hussh._protocol.handshake import HopState
from hussh.errors import ConnectError, ConnectTimeout, HusshError, Phase

HOPS = [Options(name, 22, "u") for name in ("a", "b", "c")]


def attempt() -> ConnectAttempt[Any, Any]:
    """Return an attempt to connect c by way of a and b, with nothing done yet."""
    return ConnectAttempt(lambda *given, **more: None, HOPS, None)


def test_states() -> None:
    """Hops wait for those before them; the one that was started last is told of in errors."""
    making = attempt()
    assert [hop.state for hop in making.hops] == [HopState.WAITING] * 3
    assert [hop.endpoint for hop in making.hops] == [
        Endpoint(f"u@{name}:22", index) for index, name in enumerate("abc")
    ]
    assert making.current is making.hops[0]
    making.hops[0].enter(Phase.BANNER)
    making.hops[0].note_arrived()
    assert (making.current, making.current.phase) == (making.hops[0], Phase.CHANNEL)
    making.hops[1].enter(Phase.QUEUE)
    assert [hop.state for hop in making.hops] == [HopState.UP, HopState.STARTED, HopState.WAITING]
    assert making.current is making.hops[1]


def test_no_hop_over_one_that_is_not_up() -> None:
    """A hop is opened over a hop that is up, and over no other."""
    making = attempt()
    making.hops[0].link = Link.over_memory()
    making.hops[0].enter(Phase.AUTH)
    with pytest.raises(AssertionError):
        making.bring_up_one(1)


@pytest.mark.parametrize("phase", WORDED)
def test_a_time_out_says_where(phase: Phase) -> None:
    """The error for a deadline names hop and phase, in words that fit the phase."""
    making = attempt()
    making.hops[0].enter(phase)
    error = making.make_error(DeadlineExceeded(), " after 3 s")
    assert isinstance(error, ConnectTimeout)
    assert (error.hop, error.hop_index, error.phase) == ("u@a:22", 0, phase.value)
    assert f"timed out after 3 s while {WORDED[phase]} u@a:22" in str(error)


def test_what_the_raiser_knows_stays() -> None:
    """An error's own phase is not replaced by that of the attempt."""
    making = attempt()
    making.hops[0].enter(Phase.PROXY)
    error = making.make_error(ConnectError("no", phase=Phase.DNS), "")
    assert (error.hop, error.phase) == ("u@a:22", "dns")


def test_users_see_words() -> None:
    """The phase of an error is a plain str, for whatever it was given, and so it pickles."""
    for phase in Phase:
        assert str(phase) == f"{phase}" == phase.value == phase
        for error in (HusshError("x", phase=phase), HusshError("x").at("h", 1, phase)):
            again = pickle.loads(pickle.dumps(error))
            assert type(error.phase) is type(again.phase) is str
            assert again.phase == phase.value
    for name in hussh.errors.__all__:
        default = getattr(hussh.errors, name).default_phase
        assert default is None or isinstance(default, Phase)


def test_links_count_in_phases() -> None:
    """Every number that link.h has for how far a link is stands for a phase, in their order."""
    order = [Phase.BANNER, Phase.KEX, Phase.HOSTKEY, Phase.AUTH, Phase.CHANNEL]
    assert [PHASES[number] for number in sorted(PHASES)] == order
    assert Link.over_memory().phase is Phase.BANNER
