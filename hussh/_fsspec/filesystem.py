"""`HusshFileSystem`: files on SSH servers for fsspec, and so for pandas, pyarrow and Dask.

Users import it from `hussh.fsspec`. Its methods are coroutines over `AsyncSFTP`. fsspec makes the
blocking methods of them and runs those in one event loop for the whole process. `connections.py`
opens and closes connections; nothing here does so itself.
"""

from __future__ import annotations

import hashlib
import os
import stat as modes
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from glob import has_magic
from typing import Any
from urllib.parse import unquote, urlsplit

from fsspec.asyn import AsyncFileSystem, sync_wrapper
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.config import apply_config
from fsspec.spec import _Cached
from fsspec.utils import stringify_path

from .._api.async_sftp import AsyncSFTP
from .._api.async_sftp_file import AsyncSFTPFile
from .._policy.remote_path import join
from .._policy.sftp import SFTPAttributes, decode_path, encode_path
from .._protocol.sftp import ops
from .._protocol.sftp.file_types import get_listed_type
from .._protocol.sftp.names import stat_entry
from .._protocol.sftp.wire import Name
from ..errors import SFTPError
from . import options as opts
from .connections import SharedConnection, share_connection
from .file import HusshFile, HusshStream, read_range

__all__ = ["HusshFileSystem"]

#: What fsspec gives to every file system, and we need not know.
_FSSPEC_OPTIONS = ("use_listings_cache", "listings_expiry_time", "max_paths")
_PREFIX = "hussh://"


class _Sealing(_Cached):  # type: ignore[misc]  # fsspec is not typed
    """Makes instances as fsspec does, which keeps and hashes their arguments: without secrets."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **opts.seal(apply_config(cls, kwargs)))


class HusshFileSystem(AsyncFileSystem, metaclass=_Sealing):  # type: ignore[misc]
    """A file system over SFTP, through any bastion.

    ``fsspec.open("hussh://user@host/path", proxy_jump="bastion")`` makes one. Paths are absolute,
    or relative to the home, in a URL ``hussh://host/~/path``. Instances with the same
    arguments share one connection in each event loop, which is opened when it is first needed.

    Args:
        host: name or address.
        asynchronous: True for use by coroutines, in the loop that runs; otherwise methods block.
        loop, batch_size: as fsspec has them.
        auto_mkdir: whether directories are made for files that are put where there are none.
        credentials: ``"package.module:function"``, a function that is called with host and user and
            returns more options, such as ``{"password": …}``, wherever a connection is opened.
        options: those of `hussh.aio.AsyncConnection`, with times in **seconds**, as far as they can
            be pickled. `proxy_jump` may be a dict of the bastion's own options.

    Pickles, `to_json` and tokens hold no password, key or passphrase. Workers that get a pickle log
    in with a key by its path, with their ssh-agent, or by `credentials`.

    Raises:
        TypeError, ValueError: an option is not usable; nothing was opened.
    """

    protocol = "hussh"
    root_marker = ""
    cachable = True

    def __init__(
        self,
        host: str,
        *,
        asynchronous: bool = False,
        loop: Any = None,
        batch_size: int | None = None,
        auto_mkdir: bool = True,
        left_out: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        given = {name: value for name, value in options.items() if name not in _FSSPEC_OPTIONS}
        given["host"] = host
        opts.check(given)
        if not opts.has_provider(given):
            opts.make_connection(given)  # or its error, now
        super().__init__(asynchronous=asynchronous, loop=loop, batch_size=batch_size)
        self.host = host
        self.auto_mkdir = auto_mkdir
        self._options = given
        self._left_out = tuple(left_out)
        self._shared: SharedConnection | None = None

    def __repr__(self) -> str:
        return f"HusshFileSystem({self._show_address()!r})"

    def _show_address(self) -> str:
        user, port = self._options.get("username"), self._options.get("port")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{f'{user}@' if user else ''}{host}{f':{port}' if port else ''}"

    # -- what others get of it

    @property
    def fsid(self) -> str:
        """A name for the server and user that is the same in all processes."""
        return f"hussh_{hashlib.sha256(self._show_address().encode()).hexdigest()[:32]}"

    def __reduce__(self) -> tuple[Any, ...]:
        kept, left_out = opts.remove_secrets(self.storage_options)
        return _rebuild, (type(self), self.storage_args, kept, left_out, self._fs_token)

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Return what makes it again as JSON has it, never with secrets."""
        kept, left_out = opts.remove_secrets(self.storage_options)
        plain = {name: _make_plain(value) for name, value in kept.items()}
        left_out += [name for name, value in plain.items() if callable(value)]
        if left_out:
            plain["left_out"] = left_out
        return {
            "cls": "hussh.fsspec:HusshFileSystem",
            "protocol": "hussh",
            "args": list(self.storage_args),
            **{name: value for name, value in plain.items() if not callable(value)},
        }

    # -- paths

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        path = stringify_path(path)
        if path.startswith(_PREFIX):
            path = "/" + path[len(_PREFIX) :].partition("/")[2]
            if path == "/~" or path.startswith("/~/"):
                # No path with a tilde: pandas would put the home of this machine there.
                path = path[3:].lstrip("/")
        return path.rstrip("/") or path[:1]

    @classmethod
    def _parent(cls, path: Any) -> str:
        path = cls._strip_protocol(path)
        above, slash, _ = path.rpartition("/")
        return str(above or slash)

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        try:
            url = urlsplit(path if path.startswith(_PREFIX) else "")
            port = url.port
        except ValueError:
            port = -1
        if port == -1:  # not within `except`: what failed may show a part of a password
            raise ValueError(
                "the URL has no valid host and port; in its user name and password, "
                "'#', '/', '?', '@', '[' and ']' are to be written as %23 and so on"
            )
        found = {"host": url.hostname, "port": port, "username": url.username}
        found["password"] = url.password
        texts = {name: unquote(v) if isinstance(v, str) else v for name, v in found.items()}
        return {name: value for name, value in texts.items() if value is not None}

    def unstrip_protocol(self, name: str) -> str:
        """Return the URL of a path."""
        path = self._strip_protocol(name)
        if not path.startswith("/"):
            path = f"/{path}" if path == "~" or path.startswith("~/") else f"/~/{path}"
        return f"{_PREFIX}{self._show_address()}{path}"

    @staticmethod
    def _join(folder: str, name: str) -> str:
        return join(folder, name)

    # -- the connection

    async def _get_sftp(self) -> AsyncSFTP:
        """Return the files of the connection, which is opened if it is not."""
        if self._shared is None or not self._shared.is_here:
            self._shared = share_connection(self._options, self._left_out)
        return (await self._shared.get_connection()).sftp

    async def set_session(self) -> None:
        """Connect now; for ``asynchronous=True``, where nothing else would say that it works."""
        await self._get_sftp()

    async def _close(self) -> None:
        """Close the connection; the next call opens it again."""
        if self._shared is not None:
            await self._shared.close()

    close = sync_wrapper(_close)

    # -- looking

    async def _info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        return _make_entry(path, await (await self._get_sftp()).stat(path or "."))

    async def _ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        sftp = await self._get_sftp()
        try:
            found: list[Name] = await sftp._run(
                ops.list_names(sftp._sftp, encode_path(path or "."), lambda name: name), "list"
            )
        except NotADirectoryError:
            info = await self._info(path)
            return [info] if detail else [info["name"]]
        if not detail:
            return [join(path, decode_path(entry.name)) for entry in found]
        infos = []
        for entry in found:
            name = join(path, decode_path(entry.name))
            kind = get_listed_type(entry.attributes)
            if kind and kind != modes.S_IFLNK:
                infos.append(_make_entry(name, entry.attributes))
            else:
                infos.append(await self._look_at(sftp, name, entry))
        return infos

    async def _look_at(self, sftp: AsyncSFTP, path: str, entry: Name) -> dict[str, Any]:
        """Return the entry of a link, or of what the server does not tell the type of.

        A link to a file is that file. One to a directory is not followed, because it may lead up.
        """
        attributes = await sftp._run(stat_entry(sftp._sftp, path, entry, False), "lstat")
        if not modes.S_ISLNK(attributes.st_mode):
            return _make_entry(path, attributes)
        try:
            target = await sftp.stat(path)
        except SFTPError:
            target = attributes
        info = _make_entry(path, target if modes.S_ISREG(target.st_mode) else attributes)
        info["islink"] = True
        return info

    async def _exists(self, path: str, **kwargs: Any) -> bool:
        return await (await self._get_sftp()).exists(self._strip_protocol(path) or ".")

    async def _modified(self, path: str) -> datetime:
        seconds = (await self._info(path))["mtime"]
        return datetime.fromtimestamp(seconds or 0, tz=timezone.utc)

    modified = sync_wrapper(_modified)

    # -- contents

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        path = self._strip_protocol(path)
        sftp = await self._get_sftp()
        if start is None and end is None:
            return await sftp.get_bytes(path)
        remote = await sftp.open(path, "rb", buffering=0)
        try:
            if (start or 0) < 0 or end is None or end < 0:
                size = (await remote.stat()).st_size or 0
                start = max(0, size + start) if start is not None and start < 0 else start
                end = size if end is None else size + end if end < 0 else end
            return await read_range(remote, start or 0, end)
        finally:
            await remote.close()

    async def _pipe_file(
        self, path: str, value: Any, mode: str = "overwrite", **kwargs: Any
    ) -> None:
        path = self._strip_protocol(path)
        sftp = await self._get_sftp()
        if mode == "create":
            await self._create(sftp, path)
        await self._make_parent_for(path, lambda: sftp.put_bytes(value, path))

    async def _create(self, sftp: AsyncSFTP, path: str) -> None:
        """Make an empty file; FileExistsError if something is there."""
        remote = await self._make_parent_for(path, lambda: sftp.open(path, "xb", buffering=0))
        await remote.close()

    async def _make_parent_for(self, path: str, call: Callable[[], Any]) -> Any:
        """Await what a call returns, again with the parent made if that is missing."""
        try:
            return await call()
        except FileNotFoundError:
            if not self.auto_mkdir or not self._parent(path):
                raise
            await (await self._get_sftp()).makedirs(self._parent(path), exist_ok=True)
            return await call()

    async def _put_file(
        self,
        lpath: Any,
        rpath: str,
        callback: Any = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> None:
        rpath = self._strip_protocol(rpath)
        if os.path.isdir(lpath):
            await self._makedirs(rpath, exist_ok=True)
            return
        sftp, progress = await self._get_sftp(), _make_progress(callback)
        if mode == "create":
            await self._create(sftp, rpath)
        if not os.path.exists(lpath):  # otherwise the error would be taken for that of the parent
            raise FileNotFoundError(2, os.strerror(2), os.fspath(lpath))
        await self._make_parent_for(rpath, lambda: sftp.put(lpath, rpath, progress=progress))

    async def _get_file(
        self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, **kwargs: Any
    ) -> None:
        rpath = self._strip_protocol(rpath)
        sftp = await self._get_sftp()
        try:
            await sftp.get(rpath, lpath, progress=_make_progress(callback))
        except IsADirectoryError:
            if os.path.isdir(lpath) or not await self._isdir(rpath):
                return
            os.makedirs(lpath, exist_ok=True)

    async def _cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        path1, path2 = self._strip_protocol(path1), self._strip_protocol(path2)
        sftp = await self._get_sftp()
        try:
            await self._make_parent_for(path2, lambda: sftp.copy(path1, path2))
        except IsADirectoryError:
            if not await self._isdir(path1):
                raise
            await self._makedirs(path2, exist_ok=True)

    # -- names

    async def _rename(self, path1: str, path2: str) -> None:
        await (await self._get_sftp()).rename(path1, path2)

    async def _mv_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        await self._rename(self._strip_protocol(path1), self._strip_protocol(path2))

    async def _mv(
        self, path1: str, path2: str, recursive: bool = False, maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        """Rename a file or directory; into `path2`, if that is a directory."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if source == target:
            return
        if str(path2).endswith("/") or await self._isdir(target):
            target = join(target, source.rpartition("/")[2])
        await self._make_parent_for(target, lambda: self._rename(source, target))

    mv = sync_wrapper(_mv)

    async def _rm_file(self, path: str, **kwargs: Any) -> None:
        await (await self._get_sftp()).remove(self._strip_protocol(path))

    async def _rmdir(self, path: str) -> None:
        await (await self._get_sftp()).rmdir(self._strip_protocol(path))

    rmdir = sync_wrapper(_rmdir)

    async def _rm(
        self, path: Any, recursive: bool = False, batch_size: int | None = None,
        maxdepth: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Remove files, and with `recursive` directories; links are not followed."""
        sftp = await self._get_sftp()
        for each in path if isinstance(path, list | tuple | set) else [path]:
            each = self._strip_protocol(each)
            names = await self._expand_path(each, maxdepth=1) if has_magic(each) else [each]
            for name in names:
                if not modes.S_ISDIR((await sftp.lstat(name)).st_mode):
                    await sftp.remove(name)
                elif recursive and maxdepth is not None:
                    await self._remove_down_to(name, maxdepth)
                elif recursive:
                    await sftp.rmtree(name)
                else:
                    await sftp.rmdir(name)

    async def _remove_down_to(self, path: str, maxdepth: int) -> None:
        """Remove what lies in a directory to that depth, then it; OSError if more lies below."""
        sftp = await self._get_sftp()
        for name in reversed(await self._expand_path(path, recursive=True, maxdepth=maxdepth)):
            if modes.S_ISDIR((await sftp.lstat(name)).st_mode):
                await sftp.rmdir(name)
            else:
                await sftp.remove(name)

    async def _mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        path, sftp = self._strip_protocol(path), await self._get_sftp()
        if create_parents:
            await sftp.makedirs(path)
        else:
            await sftp.mkdir(path)

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        path = self._strip_protocol(path) or "."
        await (await self._get_sftp()).makedirs(path, exist_ok=exist_ok)

    # -- open files

    async def _open_remote(self, path: str, mode: str) -> tuple[AsyncSFTPFile[bytes], int]:
        """Return an unbuffered file, and its size."""
        sftp = await self._get_sftp()
        remote: AsyncSFTPFile[bytes]
        if mode == "rb":
            remote = await sftp.open(path, mode, buffering=0)
        else:
            remote = await self._make_parent_for(path, lambda: sftp.open(path, mode, buffering=0))
        try:
            if mode in ("wb", "xb"):
                return remote, 0
            info = await remote.stat()
            if modes.S_ISDIR(info.st_mode):
                raise IsADirectoryError(21, os.strerror(21), path)
            return remote, info.st_size or 0
        except BaseException:
            await remote.close()
            raise

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> HusshFile:
        return HusshFile(
            self, path, mode, block_size, autocommit, cache_options=cache_options, **kwargs
        )

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> HusshStream:
        """Open a file for coroutines, in binary mode."""
        path = self._strip_protocol(path)
        remote, size = await self._open_remote(path, mode)
        return HusshStream(self, path, mode, remote, size, **kwargs)


def _rebuild(
    kind: type[HusshFileSystem],
    args: tuple[Any, ...],
    kept: Mapping[str, Any],
    left_out: list[str],
    token: str,
) -> HusshFileSystem:
    """Make an instance of a pickle; in the process that has the original, return that."""
    original = kind._cache.get(token)
    if isinstance(original, kind):
        return original
    given = {**kept, "left_out": tuple(left_out)} if left_out else kept
    made: HusshFileSystem = kind(*args, **given)
    return made


def _make_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _make_plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_make_plain(each) for each in value]
    if isinstance(value, timedelta):
        return value.total_seconds()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _make_entry(path: str, attributes: SFTPAttributes) -> dict[str, Any]:
    mode = attributes.st_mode
    kind = "file" if modes.S_ISREG(mode) else "directory" if modes.S_ISDIR(mode) else None
    if kind is None:
        kind = "link" if modes.S_ISLNK(mode) else "other" if modes.S_IFMT(mode) else "file"
    return {
        "name": path,
        "size": attributes.st_size if kind != "directory" else 0,
        "type": kind,
        "mode": mode,
        "uid": attributes.st_uid,
        "gid": attributes.st_gid,
        "mtime": attributes.st_mtime,
    }


def _make_progress(callback: Any) -> Any:
    """Return the progress function for one of fsspec's callbacks."""
    if callback is DEFAULT_CALLBACK:
        return None

    def tell(done: int, total: int | None) -> None:
        if total is not None:
            callback.set_size(total)
        callback.absolute_update(done)

    return tell
