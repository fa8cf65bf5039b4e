"""`SSHResult`: what the value that a command returns can do."""

from __future__ import annotations

import copy
import pickle

import pytest

from hussh import SSHResult
from tests.conformance.client import Client
from tests.conformance.conftest import THREE


async def test_forms(client: Client) -> None:
    """The two text forms are those that existing code prints and parses."""
    result = await client.execute("echo out; echo err >&2; exit 5")
    assert repr(result) == "SSHResult(stdout=out\n, stderr=err\n, status=5)"
    assert str(result) == "stdout:\nout\n\nstderr:\nerr\n\nstatus: 5"


async def test_attributes(client: Client) -> None:
    """Text is str, bytes are bytes, the status is an int, and no signal is None."""
    result = await client.execute("echo out; echo err >&2")
    assert (result.stdout, result.stderr) == ("out\n", "err\n")
    assert (result.stdout_bytes, result.stderr_bytes) == (b"out\n", b"err\n")
    assert type(result.stdout_bytes) is type(result.stderr_bytes) is bytes
    assert (type(result.status), result.status, result.signal) == (int, 0, None)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_results_compare_by_value(client: Client) -> None:
    """Equal output, status and signal make equal results with equal hashes; others differ."""
    first, second = [await client.execute("echo x; exit 2") for _ in range(2)]
    other = await client.execute("echo x; exit 3")
    assert first == second == SSHResult(b"x\n", b"", 2)
    assert hash(first) == hash(second)
    assert first != other
    assert first != "x\n"
    assert len({first, second, other}) == 2


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_results_can_be_pickled(client: Client) -> None:
    """Pickle and copy keep everything, bytes that are no text and the signal included."""
    result = await client.execute(r"printf '\377\000x'; printf e >&2; kill -TERM $$")
    assert result.signal == "TERM"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(result, protocol))
        assert twin == result == copy.deepcopy(result)
        assert (twin.stdout_bytes, twin.stderr_bytes) == (b"\xff\0x", b"e")
        assert (twin.status, twin.signal, twin.stdout) == (-1, "TERM", result.stdout)
