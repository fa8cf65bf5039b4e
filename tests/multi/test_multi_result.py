"""`MultiResult` and `HostResult` as values; needs no server."""

from __future__ import annotations

import pickle

import pytest

from hussh import PartialFailureException, SSHResult
from hussh.errors import (
    CommandTimeout,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    HusshError,
    OutputLimitExceeded,
    SFTPTimeout,
)
from hussh.multi_conn import HostResult, MultiResult

GOOD = HostResult("a", b"out", b"", 0)
BAD = HostResult("b", b"", b"no", 1)
LOST = HostResult.failed("c", ConnectError("refused", hop="u@c:22", hop_index=0))


def test_it_reads_like_a_dict() -> None:
    """keys, values, items, get, len, in, iteration and indexing work by host."""
    result = MultiResult([BAD, GOOD, LOST])
    assert result.keys() == list(result) == ["b", "a", "c"]
    assert result.values() == [BAD, GOOD, LOST]
    assert result.items() == [("b", BAD), ("a", GOOD), ("c", LOST)]
    assert dict(result.items()) == {"a": GOOD, "b": BAD, "c": LOST}
    assert result["a"] is result.get("a") is GOOD
    assert (result.get("x"), result.get("x", 5), len(result)) == (None, 5, 3)
    assert "a" in result
    assert "x" not in result
    with pytest.raises(KeyError, match="x"):
        result["x"]


def test_duplicates() -> None:
    """Every result of a host that came twice is counted; indexing gives the first."""
    again = HostResult("a", b"second", b"", 2)
    result = MultiResult([GOOD, BAD, again])
    assert result.keys() == ["a", "b", "a"]
    assert result["a"] is GOOD
    assert result.get_all("a") == [GOOD, again]
    assert result.get_all("x") == []
    assert result.failed == MultiResult([BAD, again])


def test_halves() -> None:
    """`succeeded` and `failed` are a MultiResult each, or None when empty."""
    result = MultiResult([GOOD, BAD, LOST])
    assert (result.succeeded, result.failed) == (MultiResult([GOOD]), MultiResult([BAD, LOST]))
    assert MultiResult([GOOD]).failed is None
    assert MultiResult([BAD]).succeeded is None
    assert MultiResult().succeeded is MultiResult().failed is None


def test_raise_if_any_failed() -> None:
    """It raises 0.3.3's words with both halves, or nothing."""
    MultiResult([GOOD]).raise_if_any_failed()
    with pytest.raises(PartialFailureException) as caught:
        MultiResult([GOOD, BAD, LOST]).raise_if_any_failed()
    assert str(caught.value) == (
        "Operation failed on 2 of 3 host(s): b: status 1; c: refused [u@c:22, connect]"
    )
    assert caught.value.succeeded == MultiResult([GOOD])
    assert caught.value.failed == MultiResult([BAD, LOST])
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.succeeded, again.failed) == (
        str(caught.value), caught.value.succeeded, caught.value.failed,
    )  # fmt: skip
    with pytest.raises(PartialFailureException) as caught:
        MultiResult([BAD]).raise_if_any_failed()
    assert caught.value.succeeded is None


def test_the_first_failures_are_in_the_text() -> None:
    """It names three hosts and why, each in few words, and counts the others."""
    dead = HostResult.failed("d", ConnectError("x" * 300, hop="u@d:22", hop_index=0))
    killed = HostResult("e", b"", b"", -1, "KILL")
    with pytest.raises(PartialFailureException) as caught:
        MultiResult([killed, dead, GOOD, BAD, LOST, LOST]).raise_if_any_failed()
    assert str(caught.value) == (
        "Operation failed on 5 of 6 host(s): "
        f"e: killed by SIGKILL; d: {'x' * 200}…; b: status 1; and 2 more"
    )


def test_repr() -> None:
    """The summary is 0.3.3's."""
    assert repr(MultiResult([GOOD, BAD, LOST])) == "MultiResult(3 hosts: 1 succeeded, 2 failed)"
    assert str(MultiResult()) == "MultiResult(0 hosts: 0 succeeded, 0 failed)"
    assert repr(GOOD) == "SSHResult(stdout=out, stderr=, status=0)"


@pytest.mark.parametrize("one", [GOOD, BAD, LOST, HostResult("a", truncated=True)])
def test_results_are_values(one: HostResult) -> None:
    """A pickled result is equal, has the same hash, and the same attributes."""
    again = pickle.loads(pickle.dumps(one))
    assert again == one
    assert hash(again) == hash(one)
    assert (again.host, again.truncated, again.phase, again.hop) == (
        one.host, one.truncated, one.phase, one.hop,
    )  # fmt: skip
    assert type(again.error) is type(one.error)


@pytest.mark.parametrize(
    "other",
    [
        HostResult("z", b"out", b"", 0),
        HostResult("a", b"out", b"", 0, truncated=True),
        HostResult("a", b"out", b"", 0, error=HusshError("x")),
        SSHResult(b"out", b"", 0),
    ],
)
def test_what_differs_is_not_equal(other: SSHResult) -> None:
    """Host, flag and error count, as output and status do."""
    assert other != GOOD


@pytest.mark.parametrize("kind", [CommandTimeout, ConnectTimeout, SFTPTimeout])
def test_time_outs_say_so(kind: type[HusshError]) -> None:
    """Whatever ran out of time, "timed out" is in the reason."""
    assert "timed out" in HostResult.failed("a", kind("after 3 s")).stderr


def test_partial_output_is_kept() -> None:
    """What had come before the failure stays; the reason is the last line of stderr."""
    error = OutputLimitExceeded("too much", result=SSHResult(b"\xff", b"half", -1, None, True))
    result = HostResult.failed("a", error)
    assert (result.stdout_bytes, result.stderr) == (b"\xff", "half\ntoo much")
    assert result.truncated
    assert result.status == -1


def test_a_lost_bastion_is_named() -> None:
    """Where a connection is lost because its bastion is, the reason says so, also when pickled."""
    lost = ConnectionLost("connection lost", hop="u@target:22", hop_index=1, phase="exec")
    lost.__cause__ = ConnectionLost("closed", hop="u@bastion:22", hop_index=0, phase="exec")
    result = HostResult.failed("target", lost)
    assert result.stderr == (
        "closed [u@bastion:22, exec], and so: connection lost [u@target:22, exec]"
    )
    twin = pickle.loads(pickle.dumps(result))
    assert twin == result
    assert (twin.hop, twin.phase) == (result.hop, result.phase) == ("u@bastion:22", "exec")
