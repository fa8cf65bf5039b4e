"""One server and its known_hosts file: the four policies, and how names may be written."""

from __future__ import annotations

import hmac
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hussh import Connection, HostKeyError
from hussh._policy.hostkeys import known_hosts, remembered
from hussh._protocol import host_key_check
from tests.hostkeys.lines import found, line, name_of, write
from tests.support.keys import Key, Keys
from tests.support.sshd import Sshd

POLICIES = ("accept-unknown", "accept-new", "strict", "ignore")


def connect(server: Sshd, file: Path, policy: str = "strict", **options: Any) -> Connection:
    """Log in as alice with her key."""
    return Connection(
        server.host,
        server.port,
        server.alice.name,
        private_key=server.alice.key.path,
        known_hosts=file,
        host_key_policy=policy,
        **options,
    )


def refused(server: Sshd, file: Path, policy: str = "strict", **options: Any) -> HostKeyError:
    """Return the error of a connection whose host key is not acceptable."""
    seen, logins = server.connections(), server.authentications()
    with pytest.raises(HostKeyError) as caught:
        connect(server, file, policy, **options)
    server.wait_for_log(
        r"^(Connection (closed|reset) by|Disconnected from)|Broken pipe", count=seen + 1
    )
    error = caught.value
    assert (error.hop, error.hop_index, error.phase) == (
        f"{server.alice.name}@{server.host}:{server.port}",
        0,
        "hostkey",
    )
    assert server.authentications() == logins  # nobody tried to log in
    return error


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where a known_hosts file may be."""
    return tmp_path / "known hosts"


@pytest.fixture
def stranger(keys: Keys) -> Key:
    """Return a host key that no server here has."""
    return keys.get(name="other-host")


@pytest.mark.parametrize("policy", POLICIES)
def test_recorded_key_is_accepted(policy: str, target: Sshd, file: Path) -> None:
    """A recorded key connects under every policy, and the file stays as it was."""
    text = write(file, target.known_hosts_line()).read_text()
    connect(target, file, policy).close()
    assert file.read_text() == text


def test_unknown_host_is_accepted_and_not_recorded(target: Sshd, file: Path, home: Path) -> None:
    """The default policy accepts an unknown host and writes nothing, anywhere."""
    connect(target, file, "accept-unknown").close()
    Connection(target.host, target.port, "alice", private_key=target.alice.key.path).close()
    assert not file.exists()
    assert list(home.iterdir()) == []


def test_unknown_host_is_recorded(target: Sshd, home: Path) -> None:
    """accept-new writes exactly one right line into a private file; strict accepts it then."""
    path = home / ".ssh" / "known_hosts"
    options: dict[str, Any] = {"private_key": target.alice.key.path}
    where = (target.host, target.port, target.alice.name)
    Connection(*where, **options, host_key_policy="accept-new").close()
    key = target.host_keys["ed25519"]
    assert path.read_text() == line(name_of(target), key)
    assert found(path, name_of(target)) == [" ".join(key.public_line.split()[:2])]
    assert found(path, target.host) == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    Connection(*where, **options, host_key_policy="accept-new").close()
    Connection(*where, **options, host_key_policy="strict").close()
    assert path.read_text() == line(name_of(target), key)


def test_recording_keeps_what_is_there(target: Sshd, file: Path, stranger: Key) -> None:
    """accept-new adds a line after the others, even after one without a newline."""
    before = "# a comment\n" + line("other.example", stranger).rstrip("\n")
    write(file, before)
    connect(target, file, "accept-new").close()
    key = target.host_keys["ed25519"]
    assert file.read_text() == before + "\n" + line(name_of(target), key)


def test_unknown_host_is_refused(target: Sshd, file: Path, stranger: Key) -> None:
    """strict refuses a host that is not recorded, shows its fingerprint, and writes nothing."""
    text = write(file, line("other.example", stranger)).read_text()
    error = refused(target, file)
    shown = target.host_keys["ed25519"].fingerprint
    assert (error.reason, error.fingerprint, error.recorded) == ("unknown", shown, ())
    assert error.host == name_of(target)
    assert shown in str(error)
    assert "accept-new" in str(error)
    assert file.read_text() == text


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize("policy", ["accept-unknown", "accept-new", "strict"])
def test_changed_key_is_refused(
    policy: str, hashed: bool, target: Sshd, file: Path, stranger: Key
) -> None:
    """Every policy but ignore refuses a changed key; the error has both fingerprints."""
    text = write(file, line(name_of(target), stranger), hashed=hashed).read_text()
    error = refused(target, file, policy)
    shown = target.host_keys["ed25519"].fingerprint
    assert (error.reason, error.fingerprint) == ("changed", shown)
    assert error.recorded == (stranger.fingerprint,)
    assert shown in str(error)
    assert stranger.fingerprint in str(error)
    assert f"{file}:1" in str(error)
    assert "ssh-keygen -R" in str(error)
    assert file.read_text() == text


def test_ignore_looks_at_nothing(target: Sshd, file: Path, stranger: Key) -> None:
    """ignore connects whatever is recorded, even to a revoked key or beside an unreadable file."""
    key = target.host_keys["ed25519"]
    write(file, line(name_of(target), stranger), line("*", key, "@revoked"))
    connect(target, file, "ignore").close()
    connect(target, file.parent, "ignore").close()


@pytest.mark.parametrize("policy", ["accept-unknown", "accept-new", "strict"])
def test_revoked_key_is_refused(policy: str, target: Sshd, file: Path) -> None:
    """A revoked key is refused, even where it is recorded as well."""
    key = target.host_keys["ed25519"]
    write(file, target.known_hosts_line(), line("*", key, "@revoked"))
    error = refused(target, file, policy)
    assert (error.reason, error.fingerprint) == ("revoked", key.fingerprint)
    assert f"{file}:4" in str(error)


@pytest.mark.parametrize("policy", ["accept-unknown", "accept-new", "strict"])
def test_file_that_cannot_be_read(policy: str, target: Sshd, file: Path) -> None:
    """Where the file cannot be read no connection is opened, since it may hold a changed key."""
    file.mkdir()
    with pytest.raises(HostKeyError, match="cannot read the known hosts") as caught:
        connect(target, file, policy)
    assert (caught.value.hop_index, caught.value.phase) == (0, "hostkey")
    assert str(file) in str(caught.value)
    assert target.connections() == 0


def test_file_that_cannot_be_written(
    target: Sshd, stranger: Key, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """accept-new that cannot record connects, warns once, and knows the key in this process."""
    (tmp_path / "file").touch()
    missing = tmp_path / "file" / "known_hosts"
    for _ in range(2):
        connect(target, missing, "accept-new").close()
    (warning,) = [record for record in caplog.records if record.name == "hussh.hostkey"]
    assert warning.levelname == "WARNING"
    assert str(missing) in warning.getMessage()
    connect(target, missing, "strict").close()
    remembered.forget()
    remembered.remember(str(missing), name_of(target), stranger.blob)
    target.settle()
    error = refused(target, missing, "accept-new")
    assert error.reason == "changed"
    assert "memory of this process" in str(error)


@pytest.mark.parametrize("how", ["read-only", "full"])
@pytest.mark.needs_root
def test_file_systems_that_take_nothing(
    how: str, target: Sshd, tmp_path: Path, file_system: Callable[[Path, str], None]
) -> None:
    """On a read-only and on a full file system accept-new connects all the same."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    file_system(folder, how)
    before = sorted(path.name for path in folder.iterdir())
    for policy in ("accept-new", "strict"):
        connect(target, folder / "known_hosts", policy).close()
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.fixture
def file_system() -> Iterator[Callable[[Path, str], None]]:
    """Mount file systems that take no byte more; they end with the test."""
    with ExitStack() as mounts:

        def mount(folder: Path, how: str) -> None:
            options = "size=4k,mode=755" + (",ro" if how == "read-only" else "")
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True
            )
            if done.returncode:
                pytest.skip(f"needs the right to mount: {done.stderr.decode().strip()}")
            mounts.callback(_unmount, folder)
            if how == "full":
                (folder / "known_hosts").touch()
                (folder / "ballast").write_bytes(bytes(4096))

        yield mount


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", folder], check=True)


def test_texts_that_ssh_does_not_read(
    target: Sshd, stranger: Key, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file in UTF-16 or with a BOM is read, warned of once, kept, and no good for strict."""
    for name, codec in (("wide", "utf-16"), ("bare", "utf-16-le"), ("marked", "utf-8-sig")):
        file = tmp_path / name
        file.write_bytes(target.known_hosts_line().encode(codec))
        before = file.read_bytes()
        caplog.clear()
        for policy in ("accept-unknown", "accept-unknown", "accept-new"):
            connect(target, file, policy).close()
        (warning,) = [record for record in caplog.records if record.name == "hussh.hostkey"]
        assert str(file) in warning.getMessage()
        assert file.read_bytes() == before
        target.settle()  # its log has a line for each login
        assert str(file) in str(refused(target, file, "strict"))
        file.write_bytes(line(name_of(target), stranger).encode(codec))
        assert refused(target, file, "accept-unknown").reason == "changed"
    wide = tmp_path / "wide"
    wide.write_bytes(line("other.example", stranger).encode("utf-16"))
    before = wide.read_bytes()
    connect(target, wide, "accept-new").close()
    assert wide.read_bytes() == before


def test_file_without_a_readable_line(
    target: Sshd, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file of garbage is warned of, and an error with strict; comments alone are no fault."""
    file.write_text("this is no known_hosts file\n\n")
    connect(target, file, "accept-unknown").close()
    assert "has no line that can be read" in caplog.text
    target.settle()
    assert "has no line that can be read" in str(refused(target, file, "strict"))
    caplog.clear()
    file.write_text("# nothing yet\n\n")
    connect(target, file, "accept-unknown").close()
    assert "can be read" not in caplog.text


def test_unknown_keys_are_warned_of_once(
    target: Sshd, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first unknown key of a host that is accepted unrecorded makes one line at WARNING."""
    host_key_check._warned.clear()
    for _ in range(3):
        connect(target, file, "accept-unknown").close()
    (warning,) = [record for record in caplog.records if record.name == "hussh.hostkey"]
    text = warning.getMessage()
    assert text.startswith("HostKeyNotChecked: ")
    assert target.host_keys["ed25519"].fingerprint in text
    caplog.clear()
    connect(target, file, "ignore").close()
    connect(target, file, "accept-new").close()
    assert "HostKeyNotChecked" not in caplog.text


PATTERNS = [
    ("{name}", True),
    ("{name},other.example", True),
    ("other.example,{name}", True),
    ("[127.*]:{port}", True),
    ("*", True),
    ("[127.0.0.?]:*", True),
    ("*,!other.example", True),
    ("*,!{name}", True),  # "*" for the bare name, which then counts as for ssh(1)
    ("*,!{name},!{host}", False),
    ("!{name},{name}", False),
    ("[127.0.0.2]:{port}", False),
    ("[{host}]:1{port}", False),
    ("localhost", False),
    ("{host}", True),  # the bare name stands for all its ports
]


@pytest.mark.parametrize(("pattern", "matches"), PATTERNS)
def test_patterns(pattern: str, matches: bool, target: Sshd, file: Path) -> None:
    """Lists, wildcards, negation and ports name the server, or do not, as for ssh(1)."""
    names = pattern.format(name=name_of(target), host=target.host, port=target.port)
    write(file, line(names, target.host_keys["ed25519"]))
    if matches:
        connect(target, file).close()
    else:
        assert refused(target, file).reason == "unknown"


def test_hashed_names(target: Sshd, file: Path) -> None:
    """Names that ssh-keygen -H has hashed are found, among lines for others."""
    key = target.host_keys["ed25519"]
    others = [line(f"host{number}.example", key) for number in range(20)]
    write(file, *others, line(name_of(target), key), hashed=True)
    connect(target, file).close()
    write(file, *others, line(target.host, key), hashed=True)
    connect(target, file).close()
    write(file, *others, hashed=True)
    assert refused(target, file).reason == "unknown"


def test_hashed_names_are_compared_once(
    target: Sshd, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection compares each hashed line once with each name that its key may be under."""
    compared: list[bytes] = []

    def noted(salt: bytes, name: bytes, kind: str) -> bytes:
        compared.append(name)
        return hmac.digest(salt, name, kind)

    key = target.host_keys["ed25519"]
    others = [line(f"host{number}.example", key) for number in range(4)]
    write(file, *others, line(name_of(target), key), hashed=True)
    monkeypatch.setattr(known_hosts, "hmac", SimpleNamespace(digest=noted))
    connect(target, file).close()
    names = [name_of(target).encode(), target.host.encode()]
    assert sorted(compared) == sorted(names * 5)


def test_certificate_authority_vouches_for_no_plain_key(target: Sshd, file: Path) -> None:
    """A @cert-authority line makes a plain key neither known nor changed."""
    write(file, line("*", target.host_keys["ed25519"], "@cert-authority"))
    error = refused(target, file)
    assert error.reason == "unknown"
    assert "@cert-authority" in str(error)
    connect(target, file, "accept-unknown").close()


def test_several_files(target: Sshd, tmp_path: Path, stranger: Key) -> None:
    """A key may be in any of the files, and a revocation in any of them counts."""
    key = target.host_keys["ed25519"]
    first = write(tmp_path / "first", line("other.example", stranger))
    second = write(tmp_path / "second", line(name_of(target), key))
    third = write(tmp_path / "third", line(name_of(target), key, "@revoked"))
    options: dict[str, Any] = {"private_key": target.alice.key.path, "host_key_policy": "strict"}
    where = (target.host, target.port, target.alice.name)
    Connection(*where, **options, known_hosts=[first, str(second)]).close()
    with pytest.raises(HostKeyError) as caught:
        Connection(*where, **options, known_hosts=[first, second, third])
    assert caught.value.reason == "revoked"


def test_broken_lines_are_passed_over(target: Sshd, file: Path) -> None:
    """Garbage in the file neither matches nor hides the good line."""
    garbage = f"{name_of(target)} ssh-ed25519 AAAA\n\0\xff\n@bad x y z\n|1|x|y ssh-rsa AA\n"
    write(file, garbage, target.known_hosts_line())
    connect(target, file).close()
