"""Recording host keys in known_hosts: the line, the file, and many writers at once."""

from __future__ import annotations

import os
import stat
import threading
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hussh._policy.hostkeys.known_hosts import (
    KnownHosts,
    Outcome,
    make_host_key_error,
)
from hussh._policy.hostkeys.known_hosts_line import make_known_hosts_line
from hussh._policy.hostkeys.known_hosts_record import append_line, record
from tests.support.alphabet import ANY_CHARACTER
from tests.support.public_keys import ed25519

LONG = os.environ.get("HUSSH_LONG") == "1"
PURE = settings(deadline=None, database=None, max_examples=1000 if LONG else 100)

A, B = ed25519(1), ed25519(2)


def test_recorded_line() -> None:
    """The line is what ssh would write, and a hashed one does not show the name."""
    expected = b"[a.example]:2222 ssh-ed25519 " + b64encode(A) + b"\n"
    assert make_known_hosts_line("A.Example", 2222, A) == expected
    hashed = make_known_hosts_line("a.example", 22, A, hashed=True)
    assert hashed.startswith(b"|1|")
    assert b"example" not in hashed
    assert hashed != make_known_hosts_line("a.example", 22, A, hashed=True)


@PURE
@given(st.text(ANY_CHARACTER, min_size=1, max_size=20), st.integers(1, 65535), st.booleans())
@example("*", 22, False)
@example("a,b", 22, False)
@example("@revoked", 22, False)
@example("a\nb", 22, False)
@example("#", 22, False)
@example("!a", 22, False)
def test_recorded_names_mean_only_themselves(host: str, port: int, hashed: bool) -> None:
    """Whatever the name, its line is one line, is found again, and matches no other name."""
    text = make_known_hosts_line(host, port, A, hashed=hashed)
    assert text.count(b"\n") == 1
    known = KnownHosts.parse(text)
    assert known.check(host, port, A, "strict").outcome is Outcome.ACCEPTED
    assert known.lookup(host + "x", port) == known.lookup("x" + host, port) == []


@pytest.mark.parametrize(("host", "blob"), [("", A), ("a", b""), ("a", A[:-1])])
def test_what_cannot_be_recorded(host: str, blob: bytes) -> None:
    """Neither an empty name nor a broken key gets into a file."""
    with pytest.raises(ValueError, match="not a host name and a public key"):
        make_known_hosts_line(host, 22, blob)


def test_file_and_folder_are_private(tmp_path: Path) -> None:
    """A file made for recording belongs to its owner alone, and so do its folders."""
    file = tmp_path / "one" / "two" / "known_hosts"
    record(file, "a", 22, A)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for folder in (file.parent, file.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@PURE
@given(content=st.binary(max_size=60))
@example(content=b"no newline at the end")
@example(content=b"")
def test_appending_touches_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """All bytes of the file stay, and the new line stands on a line of its own."""
    file = tmp_path_factory.getbasetemp() / "appended"
    file.write_bytes(content)
    text = make_known_hosts_line("a", 22, A)
    append_line(file, text)
    newline = b"\n" * (content != b"" and not content.endswith(b"\n"))
    assert file.read_bytes() == content + newline + text
    file.unlink()


def test_concurrent_recording(tmp_path: Path) -> None:
    """Lines of many writers stand whole beside each other."""
    file = tmp_path / "known_hosts"
    start = threading.Barrier(8)

    def write(number: int) -> None:
        start.wait()
        for at in range(20):
            record(file, f"h{number}-{at}", 22, ed25519(number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = KnownHosts.load(file)
    for number in range(8):
        for at in range(20):
            verdict = known.check(f"h{number}-{at}", 22, ed25519(number), "strict")
            assert verdict.outcome is Outcome.ACCEPTED
    # A writer that meets another's half-visible line may add an empty one; none is torn.
    assert len(file.read_bytes().split()) == 160 * 3


def test_recording_looks_again(tmp_path: Path) -> None:
    """A key that came into the file meanwhile is not doubled, and a different one refuses."""
    file = tmp_path / "known_hosts"
    assert record(file, "a", 22, A).must_record
    before = file.read_bytes()
    assert record(file, "a", 22, A).outcome is Outcome.ACCEPTED
    assert record(file, "a", 22, B).outcome is Outcome.CHANGED
    assert file.read_bytes() == before


def test_recording_that_fails(tmp_path: Path) -> None:
    """A key that cannot be written down is remembered, which is told once; another has changed."""
    (tmp_path / "file").touch()
    path, told = tmp_path / "file" / "known_hosts", list[str]()
    assert record(path, "a", 22, A, warn=told.append).must_record
    assert record(path, "b", 22, B, warn=told.append).must_record
    (text,) = told
    assert "cannot record host keys in" in text
    assert str(path) in text
    assert record(path, "a", 22, A, warn=told.append).outcome is Outcome.ACCEPTED
    verdict = record(path, "a", 22, B, warn=told.append)
    assert verdict.outcome is Outcome.CHANGED
    assert "connect in a new process" in str(make_host_key_error(verdict))
    assert len(told) == 1
