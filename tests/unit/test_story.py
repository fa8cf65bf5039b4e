"""The story of a connection: what it keeps, what it tells the log; it costs nothing unasked.

Stepped by hand with a clock of its own; needs no server.
"""

from __future__ import annotations

import logging
from itertools import count

import pytest

from hussh._policy.algorithms import is_post_quantum
from hussh._protocol.core import RunBlocking
from hussh._protocol.story import KeySeen, PhaseTime, Story, get_current_story, listen
from hussh.errors import AuthenticationError, ConnectError, Phase


def clock() -> float:
    """Return a time that nobody may ask for."""
    raise AssertionError("the clock was asked")


def test_nobody_listens() -> None:
    """Where neither the log nor a report wants a story there is none, and no clock is asked."""
    assert get_current_story(clock) is None


@pytest.mark.parametrize("name", ["hussh", "hussh.connect", "hussh.auth"])
def test_the_log_wants_one(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A logger at INFO gets a story, one at WARNING does not."""
    caplog.set_level(logging.WARNING, name)
    assert get_current_story(clock) is None
    caplog.set_level(logging.INFO, name)
    assert get_current_story(clock) is not None


def test_a_report_wants_one() -> None:
    """What somebody listens to is the current story, and no more after that."""
    story = Story(clock)
    with listen(story):
        assert get_current_story(clock) is story
    assert get_current_story(clock) is None


def test_phases_are_timed(caplog: pytest.LogCaptureFixture) -> None:
    """A phase ends where it is done or where the next one begins; each has one line at INFO."""
    caplog.set_level(logging.INFO, "hussh")
    ticks = count()
    story = Story(lambda: float(next(ticks)))
    hop = story.begin_hop("u@h:22", 0)
    hop.begin(Phase.DNS)
    hop.note_addresses(["192.0.2.1", "192.0.2.1"])
    hop.begin(Phase.CONNECT)
    hop.begin(Phase.CONNECT)
    hop.note_answer("192.0.2.1", ["2001:db8::1: Network is unreachable"], 22)
    hop.begin(Phase.BANNER)
    hop.note_banner("SSH-2.0-x\x1b[31m")
    hop.begin(Phase.AUTH)
    hop.note_up()
    hop.begin(Phase.CHANNEL)  # what comes later is no part of the story
    assert hop.phases == [
        PhaseTime("dns", 0, 1),
        PhaseTime("connect", 2, 3),
        PhaseTime("banner", 4, 5),
        PhaseTime("auth", 6, 7),
    ]
    assert (hop.addresses, hop.address) == (("192.0.2.1",), "192.0.2.1")
    story.flush()
    assert caplog.messages == [
        "[u@h:22] connect: 192.0.2.1 port 22 answered (1000 ms)",
        "[u@h:22] banner: the server is SSH-2.0-x [31m (1000 ms)",
    ]


def test_handlers_may_wait(caplog: pytest.LogCaptureFixture) -> None:
    """An operation hands its lines to a call that may block, and yields nothing without lines."""
    story = Story(lambda: 0.0)
    hop = story.begin_hop("u@h:22", 0)
    hop.begin(Phase.HOSTKEY)
    hop.note_host_key(KeySeen("ssh-ed25519", "SHA256:x", "h", "known", ("/k:3",)))
    hop.note_trusted()
    assert list(hop.write_log()) == []
    caplog.set_level(logging.DEBUG, "hussh")
    hop.begin(Phase.AUTH)
    hop.note_attempt("password", "refused")
    hop.note_offered(("publickey",))
    (wait,) = hop.write_log()
    assert isinstance(wait, RunBlocking)
    assert not caplog.records
    wait.call(None)
    assert [(one.name, one.levelno, one.getMessage()) for one in caplog.records] == [
        ("hussh.connect", logging.DEBUG, "[u@h:22] auth: begins"),
        ("hussh.auth", logging.DEBUG, "[u@h:22] password: refused"),
        ("hussh.auth", logging.DEBUG, "[u@h:22] the server accepts: publickey"),
    ]


def test_failures_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A failure ends the phase and is told with its place, but for logins, which tell their own."""
    caplog.set_level(logging.INFO, "hussh")
    story = Story(lambda: 1.0)
    hop = story.begin_hop("u@h:22", 0)
    hop.begin(Phase.CONNECT)
    story.note_failure(ConnectError("nobody there", hop="u@h:22", hop_index=0))
    story.note_failure(AuthenticationError("refused", hop="u@h:22", hop_index=0))
    story.flush()
    assert caplog.messages == ["[u@h:22] connect: failed: nobody there"]
    assert hop.phases[-1].ended == 1.0


def test_post_quantum_names() -> None:
    """Hybrid key exchanges are recognised, classical ones are not."""
    for name in ("mlkem768x25519-sha256", "sntrup761x25519-sha512@openssh.com"):
        assert is_post_quantum(name)
    assert not is_post_quantum("curve25519-sha256")
    assert not is_post_quantum("")
