"""Files that many connections need are parsed once, and never trusted beyond a change."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path

import pytest

from hussh._policy import file_cache
from hussh._policy.file_cache import KeyFile, get_known_hosts_files, set_batch_start
from hussh._policy.hostkeys.known_hosts import KnownHosts
from hussh._policy.hostkeys.known_hosts_line import make_known_hosts_line
from hussh._policy.keys.key_files import parse_private_key
from hussh._runtime.single_flight import one_at_a_time
from hussh.errors import HusshError, KeyUnreadable, PassphraseRequired, WrongPassphrase
from tests.support.keys import Key, Keys


def line(host: str, key: Key) -> bytes:
    """Return what records a key for a host."""
    return make_known_hosts_line(host, 22, key.blob)


class _Clock:
    """Stands for the time module."""

    def __init__(self, now: int) -> None:
        self.now = now

    def time_ns(self) -> int:
        return self.now


@pytest.fixture
def age(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let all files look as if nobody had written them lately."""

    def later() -> None:
        monkeypatch.setattr(file_cache, "time", _Clock(time.time_ns() + 2 * file_cache.TICK_NS))

    return later


def write(path: Path, data: bytes) -> None:
    """Write a file so that its times change, which they do once per tick of the kernel's clock."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    while not path.exists() or path.stat().st_mtime_ns == before:
        path.write_bytes(data)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what is parsed from now on."""
    names: list[str] = []

    def noted(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object) -> object:
            names.append(name)
            return call(*arguments)

        return wrapped

    monkeypatch.setattr(file_cache, "parse_private_key", noted("key", parse_private_key))
    monkeypatch.setattr(KnownHosts, "_add", noted("hosts", KnownHosts._add))
    return names


def test_known_hosts_are_parsed_once(
    tmp_path: Path, keys: Keys, parsed: list[str], age: Callable[[], None]
) -> None:
    """Unchanged files are neither read nor parsed again, and all who ask get the same object."""
    file = tmp_path / "known"
    file.write_bytes(line("a", keys.get(name="one")))
    first = get_known_hosts_files([file])
    assert first.get_cached() is None
    known = first.load()
    assert first.get_cached() is None, "written just now: it may change without a trace"
    age()
    asked = time.monotonic()
    assert get_known_hosts_files([str(file)]).load() is known
    assert get_known_hosts_files((file,)).get_cached(asked) is known
    assert first.get_cached() is None, "it touches no file, and nobody has looked since"
    assert first.get_cached(time.monotonic()) is None
    assert parsed == ["hosts"]


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "fresh"])
def test_known_hosts_change(
    tmp_path: Path, keys: Keys, trusted: bool, age: Callable[[], None]
) -> None:
    """A change is seen at once: another key of the same size, a new file in place, a removal."""
    one, two = keys.get(name="one"), keys.get(name="two")
    file = tmp_path / "known"
    files = get_known_hosts_files([file])
    assert files.load().lookup("a") == []
    for key in (one, two, one):
        write(file, line("a", key))
        assert [entry.key_blob for entry in files.load().lookup("a")] == [key.blob]
        if trusted:
            age()
            asked = time.monotonic()
            assert files.load() is files.get_cached(asked)
    other = tmp_path / "other"
    other.write_bytes(line("a", two))
    os.replace(other, file)
    assert files.get_cached() is None
    assert [entry.key_blob for entry in files.load().lookup("a")] == [two.blob]
    file.unlink()
    assert files.load().lookup("a") == []


def test_one_look_serves_a_batch(tmp_path: Path, keys: Keys) -> None:
    """What was looked at since a batch began is at hand for all of it, and for nobody else."""
    one, two = keys.get(name="one"), keys.get(name="two")
    file = tmp_path / "known"
    files = get_known_hosts_files([file])
    before = time.monotonic()

    def in_batch(start: float) -> KnownHosts | None:
        set_batch_start(start)
        return files.get_cached()

    def batch(start: float) -> KnownHosts | None:
        return copy_context().run(in_batch, start)

    write(file, line("a", one))
    assert batch(before) is None, "nobody has looked yet"
    known = files.load()
    assert batch(before) is known, "even though it was written just now"
    assert batch(time.monotonic()) is None, "this one began after that look"
    assert files.get_cached() is None
    write(file, line("a", two))
    assert [entry.key_blob for entry in files.load().lookup("a")] == [two.blob]


def test_known_hosts_grow(tmp_path: Path, keys: Keys, parsed: list[str]) -> None:
    """Of a file that grew only the new lines are parsed; what results is what all of it means."""
    blob = keys.get(name="one").blob
    file = tmp_path / "known"
    file.write_bytes(b"")
    files = get_known_hosts_files([file])
    before = files.load()
    with file.open("ab") as out:
        for index in range(6):
            hashed = make_known_hosts_line(f"h{index}", 22, blob, hashed=True)
            out.write(make_known_hosts_line(f"p{index}", 22, blob) + hashed + b"*.x ssh-rsa AAAA\n")
            out.flush()
            known = files.load()
            whole = KnownHosts.load(file)
            for name in ("p0", f"p{index}", f"h{index}", "h0"):
                assert known.lookup(name) == whole.lookup(name) != []
    assert before.lookup("p0") == [], "what somebody holds does not change"
    file.write_bytes(b"# " + file.read_bytes())
    assert files.load().lookup("p0") == []


def test_key_is_decrypted_once(
    tmp_path: Path, keys: Keys, parsed: list[str], age: Callable[[], None]
) -> None:
    """Logins share a key while one of them holds its file, for the same passphrase only."""
    key = keys.get(name="locked", passphrase="open sesame")
    path = tmp_path / "key"
    path.write_bytes(key.path.read_bytes())
    age()
    file = KeyFile.of(path, "open sesame")
    cached = file.bind_cached()
    assert cached() is None
    credential = file.load()
    assert credential.was_encrypted
    assert credential.key is not None
    assert credential.public.blob == credential.key.public.blob == key.blob
    assert cached() is credential
    asked = time.monotonic()
    KeyFile.look_again(path, "open sesame")
    assert KeyFile.of(path, "open sesame").get_cached(asked) is credential
    KeyFile.look_again(path, "never loaded")
    assert len(parsed) == 2  # without the passphrase, and with it
    with pytest.raises(WrongPassphrase):
        KeyFile.of(path, "other").load()
    locked = KeyFile.of(path, None).load()
    assert (locked.key, locked.public.blob) == (None, key.blob)
    assert isinstance(locked.locked, PassphraseRequired)
    assert "sesame" not in repr(file)
    del file, credential, cached, locked
    gc.collect()
    assert not [entry for entry in file_cache._key_files if entry[1] == str(path)]


def test_key_change(tmp_path: Path, keys: Keys, age: Callable[[], None]) -> None:
    """Another key in the same place is another key, though it has the same size."""
    path = tmp_path / "key"
    file = KeyFile.of(path, None)
    for name in ("one", "two", "one"):
        key = keys.get(name=name)
        write(path, key.path.read_bytes())
        assert file.load().public.blob == key.blob
        age()
        cached = file.bind_cached()
        assert file.load() is cached()
    path.unlink()
    asked = time.monotonic()
    KeyFile.look_again(path, None)
    assert file.get_cached(asked) is None
    with pytest.raises(KeyUnreadable, match="does not exist"):
        file.load()


def test_errors_are_everybodys_own(tmp_path: Path, age: Callable[[], None]) -> None:
    """Who shares a file that cannot be used gets an error of its own, which may be marked."""
    path = tmp_path / "key"
    path.write_text("nothing")
    age()
    file = KeyFile.of(path, None)
    errors: list[HusshError] = []
    for call in (file.load, file.load, file.bind_cached()):
        with pytest.raises(KeyUnreadable) as caught:
            call()
        errors.append(caught.value.at(f"u@h{len(errors)}:22", 0, "auth"))
    assert [error.hop for error in errors] == ["u@h0:22", "u@h1:22", "u@h2:22"]


def test_no_regular_file(tmp_path: Path, age: Callable[[], None]) -> None:
    """What is no regular file is read every time: its times tell nothing."""
    age()
    files = get_known_hosts_files(["/dev/null"])
    files.load()
    assert files.get_cached() is None


def test_one_thread_at_a_time() -> None:
    """Calls for one object take turns, those for another do not wait for them, nor late ones."""
    gate, entered, made = threading.Event(), threading.Event(), []
    one, other = _Thing(), _Thing()

    def slow() -> None:
        entered.set()
        gate.wait()
        made.append("slow")

    threads = [threading.Thread(target=one_at_a_time, args=(one, slow, None))]
    threads[0].start()
    entered.wait()
    one_at_a_time(other, lambda: made.append("other"), None)
    one_at_a_time(None, lambda: made.append("none"), None)
    one_at_a_time(one, lambda: made.append("late"), 0.0)
    threads.append(
        threading.Thread(target=one_at_a_time, args=(one, lambda: made.append("next"), None))
    )
    threads[1].start()
    assert made == ["other", "none", "late"]
    gate.set()
    for thread in threads:
        thread.join()
    assert made == ["other", "none", "late", "slow", "next"]


class _Thing:
    """Something to take turns about."""
