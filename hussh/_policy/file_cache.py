"""Caches files that every connection of a batch needs: parsed once, and again after a change.

`_connect`, the login in `_protocol`, and batches import it. It keeps the known hosts of a few sets
of files until newer sets push them out. It keeps a decrypted key only while somebody holds its
`KeyFile`, and every link that logged in with the key does. Nothing here locks: callers that run
`load` in threads make the calls for one object take turns.

A file counts as unchanged while its device, inode, size and times are those of the last reading.
That holds only if it was not written shortly before the reading, because a second change within one
tick of the file system's clock leaves the times as they are. Files without such a proof are read
again, and parsed again if their content differs.

A batch says when it began (`set_batch_start`). A look at a file since then is recent enough for all
of the batch, so a thousand hosts cost one look and not a thousand.
"""

from __future__ import annotations

import copy
import os
import stat
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Generic, NamedTuple, TypeVar

from ..errors import KeyFileError, KeyUnreadable, PassphraseRequired
from .hostkeys.known_hosts import KnownHosts, expand
from .keys.certificates import read_certificate
from .keys.key_files import parse_private_key, parse_public_key, read_private_key
from .keys.private_key import PrivateKey
from .keys.public_key import PublicKey, read_blob_type
from .owned_fd import OwnedFds, close_fds, open_fd

__all__ = [
    "Credential",
    "KeyFile",
    "KeyText",
    "KnownHostsFiles",
    "get_batch_start",
    "set_batch_start",
    "get_known_hosts_files",
]

T = TypeVar("T")

Stamp = tuple[int, ...]

#: Nanoseconds of the coarsest clock among file systems in use, that of FAT.
TICK_NS = 2_000_000_000
KNOWN_HOSTS_MAX = 4
MISSING: Stamp = ()
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
#: Seconds after which even the same batch looks again.
LOOK_AGAIN = 1.0
NEVER = float("inf")

_batch_start: ContextVar[float] = ContextVar("hussh_batch_began", default=float("inf"))


def set_batch_start(when: float) -> None:
    """Say that this context belongs to a batch that began at `when` (`time.monotonic()`)."""
    _batch_start.set(when)


def get_batch_start() -> float:
    """Return when the batch began to which this context belongs; infinity outside of a batch."""
    return _batch_start.get()


@contextmanager
def begin_now() -> Iterator[None]:
    """Accept looks at files since now, or since the batch began, for what runs inside."""
    token = _batch_start.set(min(_batch_start.get(), monotonic()))
    try:
        yield
    finally:
        with suppress(ValueError):  # closed in another context, by the collector
            _batch_start.reset(token)


@dataclass(frozen=True, eq=False, repr=False)
class _State(Generic[T]):
    """What was read. `stamps` is None if only the content can tell whether it is still current."""

    stamps: tuple[Stamp, ...] | None
    content: object
    value: T


class _CachedFiles(Generic[T]):
    """What some files contain. Subclasses say which files, and what to make of them."""

    def __init__(self) -> None:
        self._state: _State[T] | None = None
        self._looked = float("-inf")  # when `_state` was last known to hold

    def _list_paths(self) -> Sequence[str]:
        raise NotImplementedError

    def _read(self, old: _State[T] | None) -> tuple[object, T]:
        """Return the content of the files, and what was made of it."""
        raise NotImplementedError

    def _get_fresh_state(self, asked: float) -> _State[T] | None:
        """Return the state if a look since the batch began, or since `asked`, found it current.

        It touches no file, so an event loop may call it.
        """
        looked = self._looked
        if looked >= min(_batch_start.get(), asked) and looked >= monotonic() - LOOK_AGAIN:
            return self._state
        return None

    def _get_current(self) -> _State[T] | None:
        state, looked = self._state, monotonic()
        if (
            state is None
            or state.stamps is None
            or state.stamps != _read_stamps(self._list_paths())
        ):
            return None
        self._looked = looked
        return state

    def _refresh(self) -> T:
        state = self._get_current()
        if state is None:
            paths, looked = self._list_paths(), monotonic()
            before = _read_stamps(paths)
            content, value = self._read(self._state)
            after = _read_stamps(paths)
            whole = before == after and after is not None
            trusted = after if whole and after is not None and _has_settled(after) else None
            state = self._state = _State(trusted, content, value)
            self._looked = looked if whole else float("-inf")
        return state.value


class KnownHostsFiles(_CachedFiles[KnownHosts]):
    """The parsed known hosts of some files, in order."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        super().__init__()
        self._names = paths

    def _list_paths(self) -> Sequence[str]:
        return self._names

    def _read(self, old: _State[KnownHosts] | None) -> tuple[object, KnownHosts]:
        files = KnownHosts.read(self._names)
        if old is None:
            return files, KnownHosts.of(files)
        if old.content == files:
            return files, old.value
        return files, old.value.grow(old.content, files) or KnownHosts.of(files)

    def get_cached(self, asked: float = NEVER) -> KnownHosts | None:
        """Return the known hosts if the files were looked at since `asked` (`time.monotonic()`)."""
        state = self._get_fresh_state(asked)
        return None if state is None else state.value

    def load(self) -> KnownHosts:
        """Return the known hosts, and read the files if need be.

        Raises:
            HostKeyError: a file exists and cannot be read.
        """
        return self._refresh()


class Credential(NamedTuple):
    """What one named key is good for.

    Attributes:
        key: it can sign; None if only an agent can.
        certificate: of the key, if there is one beside it.
        was_encrypted: whether a passphrase was needed.
        public: its public half.
        locked: why it cannot sign here, if that is for want of a passphrase.
    """

    key: PrivateKey | None
    certificate: PublicKey | None
    was_encrypted: bool
    public: PublicKey
    locked: PassphraseRequired | None = None


class KeyFile(_CachedFiles["Credential | KeyFileError"]):
    """A private key file with the certificate beside it, for one passphrase."""

    def __init__(self, path: str | os.PathLike[str], passphrase: str | None) -> None:
        super().__init__()
        self._path = path
        self._passphrase = passphrase

    @staticmethod
    def of(path: str | os.PathLike[str], passphrase: str | None) -> KeyFile:
        """Return the object for this file and passphrase that others hold, or else a new one."""
        key = expand(path), os.fspath(path), passphrase
        found = _key_files.get(key)
        return found if found is not None else _key_files.setdefault(key, KeyFile(path, passphrase))

    @staticmethod
    def look_again(path: str | os.PathLike[str], passphrase: str | None) -> None:
        """Look whether a key that others have loaded is still current; read and decrypt nothing."""
        found = _key_files.get((expand(path), os.fspath(path), passphrase))
        if found is not None:
            found._get_current()

    def __repr__(self) -> str:
        return "<KeyFile>"

    def _list_paths(self) -> Sequence[str]:
        path = expand(self._path)
        return path, path.removesuffix(".pub") + "-cert.pub", path + ".pub"

    def _read(
        self, old: _State[Credential | KeyFileError] | None
    ) -> tuple[object, Credential | KeyFileError]:
        try:
            data = self._read_content()
        except KeyFileError as error:
            return None, error
        if old is not None and old.content == data and isinstance(old.value, Credential):
            key: Credential | KeyFileError = old.value
        else:
            key = _parse_key(data, self._passphrase, os.fsdecode(self._path))
        if isinstance(key, PassphraseRequired):
            key = self._read_beside(key) or key
        if isinstance(key, KeyFileError):
            return data, key
        path = os.fsdecode(self._path).removesuffix(".pub")
        return data, key._replace(certificate=read_certificate(path, key.public))

    def _read_content(self) -> bytes:
        try:
            return read_private_key(self._path)
        except KeyUnreadable:
            path = expand(self._path)
            if os.path.lexists(path) or not os.path.isfile(path + ".pub"):
                raise
            return read_private_key(path + ".pub")

    def _read_beside(self, error: PassphraseRequired) -> Credential | None:
        """Return the public half of a locked key from ``KEY.pub``, for the agent."""
        try:
            public = parse_public_key(read_private_key(expand(self._path) + ".pub"))
        except KeyFileError:
            return None
        return (
            None
            if public is None
            else Credential(None, None, False, public, _strip_traceback(error))
        )

    def get_cached(self, asked: float = NEVER) -> Credential | None:
        """Return or raise what `load` would, if the file was looked at lately.

        Args:
            asked: a look since then counts, in the time of `time.monotonic()`.

        Returns:
            the credential, or None if nobody has looked since.
        """
        state = self._get_fresh_state(asked)
        return None if state is None else _return_or_raise(state.value)

    def bind_cached(self) -> Callable[[], Credential | None]:
        """Return `get_cached` with the present time as `asked`, to call when others have looked."""
        return partial(self.get_cached, monotonic())

    def load(self) -> Credential:
        """Read and decrypt the key, which may take a second.

        Raises:
            KeyUnreadable, PassphraseRequired, WrongPassphrase: see `load_private_key`.
        """
        return _return_or_raise(self._refresh())


class KeyText:
    """A private key that was given as text, for one passphrase: decrypted once."""

    def __init__(self, text: bytes, name: str, passphrase: str | None) -> None:
        self._text, self._name, self._passphrase = text, name, passphrase
        self._value: Credential | KeyFileError | None = None

    @staticmethod
    def of(text: bytes, name: str, passphrase: str | None) -> KeyText:
        """Return the object for this text and passphrase that others hold, or else a new one."""
        found = _key_texts.get((text, passphrase))
        if found is None:
            found = _key_texts.setdefault((text, passphrase), KeyText(text, name, passphrase))
        return found

    def __repr__(self) -> str:
        return "<KeyText>"

    def get_cached(self) -> Credential | None:
        """Return or raise what `load` would, if it is known; else return None."""
        return None if self._value is None else _return_or_raise(self._value)

    def bind_cached(self) -> Callable[[], Credential | None]:
        """Return `get_cached`: a text does not change."""
        return self.get_cached

    def load(self) -> Credential:
        """Decrypt the key, which may take a second; raises what `KeyFile.load` raises."""
        if self._value is None:
            self._value = _parse_key(self._text, self._passphrase, self._name)
        return _return_or_raise(self._value)


def _strip_traceback(error: PassphraseRequired) -> PassphraseRequired:
    """Return the error without its traceback, whose frames hold the file's content."""
    error.__traceback__ = error.__context__ = None
    return error


def _parse_key(data: bytes, passphrase: str | None, name: str) -> Credential | KeyFileError:
    """Make of a key's text what it is good for; a locked key with a known public half is."""
    try:
        try:
            key = parse_private_key(data, None, name)
        except PassphraseRequired as error:
            if not passphrase:
                if error.public_blob is None:
                    raise
                blob = error.public_blob
                return Credential(
                    None,
                    None,
                    False,
                    PublicKey(read_blob_type(blob) or "", blob),
                    _strip_traceback(error),
                )
        except KeyUnreadable:
            public = parse_public_key(data)
            if public is None:
                raise
            return Credential(None, None, False, public)
        else:
            return Credential(key, None, False, key.public)
        key = parse_private_key(data, passphrase, name)
        return Credential(key, None, True, key.public)
    except KeyFileError as error:
        return error


def _return_or_raise(value: Credential | KeyFileError) -> Credential:
    if isinstance(value, KeyFileError):
        raise copy.copy(value) from value.__cause__  # a copy, because each gets its own hop
    return value


_key_files: weakref.WeakValueDictionary[tuple[str, str, str | None], KeyFile] = (
    weakref.WeakValueDictionary()
)
_key_texts: weakref.WeakValueDictionary[tuple[bytes, str | None], KeyText] = (
    weakref.WeakValueDictionary()
)
_known_hosts: dict[tuple[str, ...], KnownHostsFiles] = {}


def get_known_hosts_files(paths: Sequence[str | os.PathLike[str]]) -> KnownHostsFiles:
    """Return the object for these files; callers that ask at the same time get the same one."""
    key = tuple([expand(path) for path in paths])
    found = _known_hosts.get(key)
    if found is None:
        found = _known_hosts.setdefault(key, KnownHostsFiles(key))
        for oldest in list(_known_hosts)[:-KNOWN_HOSTS_MAX]:
            _known_hosts.pop(oldest, None)
    return found


def _read_stamps(paths: Sequence[str]) -> tuple[Stamp, ...] | None:
    """Return what tells this state of the files from any other; None if nothing does."""
    stamps = []
    opened = OwnedFds()
    for path in paths:
        try:
            # Opening makes a network file system ask its server; a stat would not.
            info = os.fstat(open_fd(opened, path, _FLAGS))
            close_fds(opened)
        except (FileNotFoundError, NotADirectoryError):
            stamps.append(MISSING)
            continue
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(info.st_mode):
            return None
        stamps.append((info.st_mtime_ns, info.st_ctime_ns, info.st_dev, info.st_ino, info.st_size))
    return tuple(stamps)


def _has_settled(stamps: tuple[Stamp, ...]) -> bool:
    newest = max((max(stamp[:2]) for stamp in stamps if stamp), default=0)
    return time.time_ns() - newest > TICK_NS
