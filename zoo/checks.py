"""What is tried on every server: one function for each row of docs/servers.md.

`zoo.__main__` calls them. A check returns if hussh did right, and raises if not; it knows
nothing of particular servers.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hussh import AuthenticationError, Connection, SFTPUnavailable
from hussh.multi_conn import MultiConnection

from .peer import TIMEOUT, NotHere, Peer

MIB = 1 << 20
COMMANDS = 20
FILES = 50
LOGINS = 20
REKEYS = 5
_CHECKS: dict[str, Callable[[Peer], None]] = {}


def all_checks() -> dict[str, Callable[[Peer], None]]:
    """Return the rows in their order: title -> check."""
    return dict(_CHECKS)


def _row(title: str) -> Callable[[Callable[[Peer], None]], Callable[[Peer], None]]:
    def add(check: Callable[[Peer], None]) -> Callable[[Peer], None]:
        _CHECKS[title] = check
        return check

    return add


def _expect(found: Any, wanted: Any, what: str) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: {found!r:.200} instead of {wanted!r:.200}")


@_row("password login")
def password_login(peer: Peer) -> None:
    """The right password lets in."""
    peer.connect(private_key=None, password=peer.password).close()


@_row("key login")
def key_login(peer: Peer) -> None:
    """The key lets in."""
    peer.connect(private_key=peer.key, password=None).close()


@_row("wrong password")
def wrong_password(peer: Peer) -> None:
    """A wrong password is an AuthenticationError, soon, and the next login works."""
    began = time.monotonic()
    try:
        peer.connect(private_key=None, password="wrong").close()
    except AuthenticationError:
        pass
    else:
        raise AssertionError("a wrong password let in")
    if time.monotonic() - began > 10:
        raise AssertionError("the refusal took more than 10 s")
    peer.connect().close()


@_row("a command")
def command(peer: Peer) -> None:
    """Both streams and the status are right."""
    with peer.connect() as connection:
        result = connection.execute("echo out; echo err >&2; exit 3")
        _expect((result.stdout, result.stderr, result.status), ("out\n", "err\n", 3), "result")


@_row("20 commands at once")
def commands_at_once(peer: Peer) -> None:
    """Twenty threads share one connection; each gets its own answer."""
    with peer.connect() as connection, ThreadPoolExecutor(COMMANDS) as pool:
        texts = [f"echo {number}" for number in range(COMMANDS)]
        found = [result.stdout for result in pool.map(connection.execute, texts)]
        _expect(found, [f"{number}\n" for number in range(COMMANDS)], "outputs")


@_row("5 MiB of stdin")
def big_input(peer: Peer) -> None:
    """The command reads all of it and answers with its sum."""
    data = os.urandom(5 * MIB)
    with peer.connect() as connection:
        result = connection.execute("sha256sum", input=data)
        _expect(result.stdout.split()[:1], [sha256(data).hexdigest()], "sum")


@_row("SFTP, 5 MiB both ways")
def transfers(peer: Peer) -> None:
    """A file arrives as it was sent, and comes back the same."""
    data = os.urandom(5 * MIB + 1)
    with peer.connect() as connection, TemporaryDirectory() as folder:
        source, back = Path(folder, "source"), Path(folder, "back")
        source.write_bytes(data)
        connection.sftp_write(source, f"{peer.home}/transfer")
        _expect(Path(peer.files, "transfer").read_bytes() == data, True, "uploaded")
        connection.sftp_read(f"{peer.home}/transfer", back)
        _expect(back.read_bytes() == data, True, "downloaded")
        _expect(connection.sftp.stat(f"{peer.home}/transfer").st_size, len(data), "size")


@_row("50 files both ways")
def many_files(peer: Peer) -> None:
    """A folder arrives file by file as it was, and comes back the same."""
    contents = {f"sub{n % 5}/file{n}": os.urandom(997 * n) for n in range(FILES)}
    with peer.connect() as connection, TemporaryDirectory() as folder:
        source, back = Path(folder, "source"), Path(folder, "back")
        for name, data in contents.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
        done, failed = connection.sftp_put_dir(source, f"{peer.home}/tree")
        _expect((len(done), failed), (FILES, []), "put")
        there = {name: (peer.files / "tree" / name).read_bytes() for name in contents}
        _expect(there == contents, True, "what was put")
        done, failed = connection.sftp_get_dir(f"{peer.home}/tree", back)
        _expect((len(done), failed), (FILES, []), "got")
        here = {name: (back / name).read_bytes() for name in contents}
        _expect(here == contents, True, "what was got")


@_row("mirrors and trees")
def mirrors(peer: Peer) -> None:
    """A mirror sends what differs and removes what is too much, back as well; no link is followed.

    Paths are found by a pattern, a copy is made at the server, and the tree is removed.
    """
    with peer.connect() as connection, TemporaryDirectory() as folder:
        sftp, here, top = connection.sftp, Path(folder, "here"), f"{peer.home}/mirror"
        (here / "a/b").mkdir(parents=True)
        for name in ("one", "a/two", "a/b/three"):
            (here / name).write_text(name)
        result = sftp.mirror(here, top, delete=True)
        _expect((len(result.transferred), result.failed), (3, []), "first")
        (here / "one").write_text("changed")
        (here / "a/two").unlink()
        (here / "a/link").symlink_to("b")
        sftp.makedirs(f"{top}/extra/inner")
        sftp.put_bytes(b"x", f"{top}/extra/inner/file")
        result = sftp.mirror(here, top, delete=True, exclude="*.tmp")
        _expect(result.failed, [], "second")
        there = sorted(
            str(path.relative_to(peer.files)) for path in peer.files.rglob("mirror/**/*")
        )
        expected = ["a", "a/b", "a/b/three", "a/link", "one"]
        _expect(there, [f"mirror/{name}" for name in expected], "what is there")
        _expect((peer.files / "mirror/one").read_text(), "changed", "contents")
        result = sftp.mirror(here, top, delete=True)
        # Erlang's server and Conch make relative links absolute, so those are sent again.
        files = [path for path in result.transferred if not path.endswith("link")]
        _expect((files, result.deleted), ([], []), "third")
        back = Path(folder, "back")
        (back / "extra").mkdir(parents=True)
        result = sftp.mirror_back(top, back, delete=True)
        _expect(result.failed, [], "back")
        found = sorted(str(path.relative_to(back)) for path in back.rglob("*"))
        _expect(found, expected, "what is back")
        _expect(sftp.glob(f"{top}/**/th*"), [f"{top}/a/b/three"], "glob")
        _expect(sftp.copy(f"{top}/one", f"{top}/copied"), 7, "size of a copy")
        _expect((peer.files / "mirror/copied").read_text(), "changed", "a copy")
        sftp.rmtree(top)
        _expect((peer.files / "mirror").exists(), False, "after rmtree")


@_row("names")
def names(peer: Peer) -> None:
    """Folders and files can be made, listed, renamed and removed, whatever they are called."""
    odd = ["two words", "semi;colon $(x)", "new\nline", "-dash"]
    with peer.connect() as connection:
        folder = f"{peer.home}/names"
        connection.sftp.mkdir(folder)
        for name in odd:
            connection.sftp_write_data(name, f"{folder}/{name}")
        _expect(sorted(connection.sftp.listdir(folder)), sorted(odd), "listing")
        for name in odd:
            _expect(connection.sftp_read(f"{folder}/{name}"), name, "contents")
        connection.sftp.rename(f"{folder}/-dash", f"{folder}/moved")
        connection.sftp.makedirs(f"{folder}/a/b", exist_ok=True)
        connection.sftp.makedirs(f"{folder}/a/b", exist_ok=True)
        _, folders, files = next(connection.sftp.walk(folder))
        _expect((folders, sorted(files)), (["a"], sorted(["moved", *odd[:-1]])), "walk")
        for name in ("moved", *odd[:-1]):
            connection.sftp.remove(f"{folder}/{name}")
        connection.sftp.rmdir(f"{folder}/a/b")
        connection.sftp.rmdir(f"{folder}/a")
        _expect(connection.sftp.listdir(folder), [], "emptied")
        connection.sftp.rmdir(folder)
        _expect((peer.files / "names").exists(), False, "removed")


@_row("Unicode names")
def unicode_names(peer: Peer) -> None:
    """A file with a name beyond Latin-1 can be written, listed and read."""
    with peer.connect() as connection:
        folder = f"{peer.home}/unicode"
        connection.sftp.mkdir(folder)
        connection.sftp_write_data("text", f"{folder}/ünïcode €")
        _expect(connection.sftp.listdir(folder), ["ünïcode €"], "listing")
        _expect(connection.sftp_read(f"{folder}/ünïcode €"), "text", "contents")


@_row("symbolic links")
def links(peer: Peer) -> None:
    """A relative link leads where it should, for the server and for us.

    Some servers store or tell the whole path instead, which leads there, too.
    """
    with peer.connect() as connection:
        connection.sftp_write_data("data", f"{peer.home}/pointed-at")
        connection.sftp.symlink("pointed-at", f"{peer.home}/link")
        leads_there = {"pointed-at", f"{peer.home}/pointed-at"}
        _expect(os.readlink(peer.files / "link") in leads_there, True, "on disk")
        _expect(connection.sftp.readlink(f"{peer.home}/link") in leads_there, True, "readlink")
        _expect(connection.sftp_read(f"{peer.home}/link"), "data", "through the link")
        mode = connection.sftp.lstat(f"{peer.home}/link").st_mode or 0
        _expect(stat.S_ISLNK(mode), True, "lstat")


@_row("keepalive")
def keepalive(peer: Peer) -> None:
    """With a probe each half second the connection is alive after three seconds without work."""
    with peer.connect(keepalive_interval=0.5) as connection:
        time.sleep(3)  # this is the thing tried: that nothing but probes happens
        _use(connection, peer)


@_row("as a bastion")
def as_bastion(peer: Peer) -> None:
    """A session to an OpenSSH server runs over it: 2 MiB each way, with new keys meanwhile."""
    if peer.target is None:
        raise NotHere("no OpenSSH server to forward to")
    data = os.urandom(2 * MIB)
    with peer.connect() as bastion, peer.target.connect(proxy_jump=bastion) as connection:
        result = connection.execute("cat", input=data)
        _expect(result.stdout_bytes == data, True, "what came back")


@_row("20 logins by MultiConnection")
def many_logins(peer: Peer) -> None:
    """Twenty hosts of one batch are this server; all are in within ten seconds."""
    options = {**peer.options(), "timeout": TIMEOUT / 1000}
    multi = MultiConnection.from_shared_auth(
        [peer.host] * LOGINS, peer.user, port=peer.port, **peer.login(), **options
    )
    began = time.monotonic()
    try:
        failed = multi.connect().failed
        _expect(failed and [result.stderr for result in failed.values()], None, "failed")
    finally:
        multi.close()
    if time.monotonic() - began > 10:
        raise AssertionError("it took more than 10 s")


@_row("re-keying")
def rekeying(peer: Peer) -> None:
    """Keys change five times at our wish, and the connection works after each."""
    with peer.connect() as connection:
        session = connection._get_session()
        for count in range(1, REKEYS + 1):
            with session.driver.locked():
                session.link.rekey()
            _use(connection, peer)
            with session.driver.locked():
                rekeys = session.link.get_info().rekeys
            _expect(rekeys >= count, True, "keys were changed")


def _use(connection: Connection, peer: Peer) -> None:
    """Do the least that shows a connection to be alive; again and again it takes one channel."""
    try:
        connection.sftp.stat(peer.home)
    except SFTPUnavailable:
        connection.execute("true")
