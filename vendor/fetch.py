#!/usr/bin/env python3
"""Get the libssh2 source that hussh is built from: upstream's release plus vendor/patches.

Owns the verification, the unpacking, the patching and the cache; vendor/mirrors.py downloads.
build_ffi.py may import it (importing does nothing); it needs nothing but the standard library, and
apt where the release is neither bundled, nor cached, nor given.  It never leaves a half-made folder
where `prepare` would find it.

A source distribution bundles the patched source in vendor/libssh2 (setup.py puts it there), and
is built from that, in place.

Environment: HUSSH_LIBSSH2_SOURCE names the release, packed or unpacked, and replaces the bundled
source and the download; HUSSH_CACHE names the cache folder (else $XDG_CACHE_HOME/hussh, else
~/.cache/hussh).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = [
    "RECORD", "SOURCES", "FetchError", "bundle", "cache_folder", "describe", "is_compiled",
    "prepare",
]  # fmt: skip

HERE = Path(__file__).resolve().parent


def _load_mirrors() -> ModuleType:
    # By its path, as this file is loaded: vendor/ is no package.
    spec = importlib.util.spec_from_file_location("hussh_vendor_mirrors", HERE / "mirrors.py")
    if spec is None or spec.loader is None:
        raise ImportError("vendor/mirrors.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # NamedTuple looks there
    spec.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    from vendor import mirrors
    from vendor.mirrors import FetchError
else:
    mirrors = _load_mirrors()
    FetchError = mirrors.FetchError

LOCK = HERE / "libssh2.lock"
PATCHES = HERE / "patches"
BUNDLED = HERE / "libssh2"  # in a source distribution
RECORD = Path("hussh-record.json")  # in a patched source: what was done to it

#: The files under src/ to compile, beside those of csrc/ (build_ffi.py).
#: crypto.c includes openssl.c.  Left out on purpose, so that no server can reach them:
#: agent, userauth, sftp, scp, publickey, knownhost, keepalive, pem, bcrypt_pbkdf,
#: chacha, poly1305, cipher-chachapoly.
SOURCES = (
    "channel.c",
    "comp.c",
    "crypt.c",
    "crypto.c",
    "global.c",
    "hostkey.c",
    "kex.c",
    "mac.c",
    "misc.c",
    "packet.c",
    "session.c",
    "transport.c",
    "version.c",
)


def prepare() -> Path:
    """Return a folder with the patched source (src/, include/, COPYING); quick when cached.

    Raises FetchError.
    """
    try:
        lock = json.loads(LOCK.read_text())
        patches = _our_patches(lock)
        given = os.environ.get("HUSSH_LIBSSH2_SOURCE")
        if given:
            return _from_given(Path(given), lock, patches)
        if BUNDLED.is_dir():
            return _from_bundle(patches)
        return _from_release(lock, patches)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise FetchError(
            f"cannot prepare the libssh2 source:{where} {error.strerror or error};"
            " make room or point HUSSH_CACHE at a folder that can be written"
        ) from error


def is_compiled(name: str) -> bool:
    """Whether hussh contains code of this file of src/."""
    return name in SOURCES or name == "openssl.c"


def describe(path: Path) -> dict[str, Any]:
    """Return what the source in `path` really is, for build_info.

    Keys: libssh2 (version), changed_files (those that are not what the release and the patches
    give: empty unless HUSSH_LIBSSH2_SOURCE named something else, or files were edited), patches
    (file name of each that is applied to its sha256), cves (each published vulnerability of
    the release to "patched by NAME", "not compiled in: FILE" or "not patched").
    """
    record = _recorded(path)
    cves: dict[str, str] = {}
    for cve, known in json.loads(LOCK.read_text())["cves"].items():
        if not is_compiled(known["file"]):
            cves[cve] = f"not compiled in: {known['file']}"
        elif known["patch"] in record["patches"]:
            cves[cve] = f"patched by {known['patch']}"
        else:
            cves[cve] = "not patched"
    return {
        "libssh2": _version(path),
        "changed_files": _changed(path, record),
        "cves": cves,
        "patches": record["patches"],
    }


# The two ways to a source.


def _from_release(lock: dict[str, Any], patches: list[Path]) -> Path:
    cache = cache_folder()
    archive = _archive(lock)
    # Two levels, so that a changed patch costs no second download.
    release = cache / archive.file
    done = cache / f"patched-{_digest(LOCK, *patches)[:20]}"
    if (done / RECORD).is_file():
        return done
    with _Staging(cache) as staging:
        if not release.is_file():
            mirrors.download(archive, staging.path / release.name)
            (staging.path / release.name).replace(release)
        # Also when it comes from the cache: reading 1 MB costs nothing.
        mirrors.verify(release, archive)
        _unpack(release, staging.path)
        _finish(staging.path, lock, patches, release)
        staging.publish(done)
    return done


def _from_bundle(patches: list[Path]) -> Path:
    """Return the folder in which a source distribution has the patched source, if it is ours."""
    wanted = {patch.name: mirrors.sha256(patch) for patch in patches}
    if _recorded(BUNDLED)["patches"] != wanted:
        raise FetchError(
            f"{BUNDLED} was not made with the patches of {PATCHES}; remove it, and the release is"
            " fetched and patched anew"
        )
    return BUNDLED


def bundle(target: Path) -> None:
    """Copy the patched source into a folder, for a source distribution.

    Raises FetchError, also if the source is not the pinned release: others shall get that.
    """
    source = prepare()
    if changed := describe(source)["changed_files"]:
        raise FetchError(f"unlike the release, {_few(changed)} changed in {source}")
    try:
        for path in [source / RECORD, *(source / name for name in _recorded(source)["files"])]:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    except OSError as error:
        raise FetchError(f"cannot copy {source}: {error}") from error


def _from_given(given: Path, lock: dict[str, Any], patches: list[Path]) -> Path:
    inputs = [given] if given.is_file() else list(_sources_in(given))
    if not inputs:
        raise FetchError(
            f"HUSSH_LIBSSH2_SOURCE={given} has no src/transport.c; name {_what_is_wanted(lock)},"
            " packed or unpacked, or unset it"
        )
    key = hashlib.sha256(f"with files {_digest(LOCK, *patches)}".encode())
    for path in inputs:
        key.update(f"{path.relative_to(given)}\0{_digest(path)}\n".encode())
    cache = cache_folder()
    done = cache / f"given-{key.hexdigest()[:20]}"
    if not (done / RECORD).is_file():
        with _Staging(cache) as staging:
            if given.is_file():
                _unpack(given, staging.path)
            for path in inputs if given.is_dir() else ():
                target = staging.path / path.relative_to(given)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            _finish(staging.path, lock, patches, given)
            staging.publish(done)
    return done


def _sources_in(given: Path) -> Iterator[Path]:
    """Yield what a build needs of an unpacked source, nothing if it is none."""
    if (given / "src/transport.c").is_file():
        yield from (path for path in (given / "COPYING", given / RECORD) if path.is_file())
        for top in ("include", "src"):
            yield from sorted(path for path in (given / top).rglob("*.[ch]") if path.is_file())


class _Staging:
    """A private folder that becomes the cache entry in one rename, or vanishes."""

    def __init__(self, cache: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="tmp-", dir=cache))

    def __enter__(self) -> _Staging:
        return self

    def __exit__(self, *_exc: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def publish(self, target: Path) -> None:
        try:
            self.path.rename(target)
        except OSError:
            # Another build was first: its folder holds the same, by the key in the name.
            if not target.is_dir():
                raise


# Unpack and patch.


def _unpack(archive: Path, target: Path) -> None:
    """Take what a build needs out of a release, whatever its top folder is called."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.removeprefix("./").partition("/")[2]
                # So spelt that nothing can land outside.
                if not member.isreg() or not re.fullmatch(
                    r"COPYING|(src|include)/[\w.-]+\.[ch]", name
                ):
                    continue
                content = tar.extractfile(member)
                if content is None:
                    raise FetchError(f"{archive}: {member.name!r} cannot be read")
                path = target / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content.read())
    except (tarfile.TarError, EOFError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise FetchError(
            f"cannot unpack {archive} ({reason}); see that it is a tar archive, and that Python"
            " has lzma and zlib"
        ) from error


def _finish(tree: Path, lock: dict[str, Any], patches: list[Path], origin: Path) -> None:
    """Check the unpacked source, patch it and record what it is.

    Args:
        tree: the source, in a staging folder.
        origin: where it came from, for errors.
    """
    wanted = lock["upstream"]["files"]
    missing = [name for name in wanted if not (tree / name).is_file()]
    if missing:
        raise FetchError(
            f"{origin} lacks {_few(missing)}; hussh needs {_what_is_wanted(lock)}, packed or"
            " unpacked"
        )
    if _version(tree) != lock["upstream"]["version"]:
        raise FetchError(
            f"{origin} is libssh2 {_version(tree)}; hussh needs {_what_is_wanted(lock)}"
        )
    record = _recorded(tree)
    if (tree / RECORD).is_file():
        record["changed_files"] = _changed(tree, record)
    else:
        upstream = {name: mirrors.sha256(tree / name) for name in wanted}
        record["changed_files"] = [name for name in wanted if upstream[name] != wanted[name]]
    for patch in patches:
        digest = mirrors.sha256(patch)
        if record["patches"].get(patch.name) == digest:
            continue
        try:
            _apply(tree, patch)
        except _Mismatch as error:
            changed = record["changed_files"]
            raise FetchError(
                f"patch {patch.name} does not apply to {error} of {origin}: "
                + (f"unlike the release, {_few(changed)} changed there" if changed else "")
                + ("it was patched for another version of hussh" if record["patches"] else "")
                + f"; hussh needs {_what_is_wanted(lock)} without the patches of a distribution"
            ) from None
        record["patches"][patch.name] = digest
    record["files"] = {name: mirrors.sha256(tree / name) for name in wanted}
    (tree / RECORD).write_text(json.dumps(record, indent=1))


class _Mismatch(Exception):
    """A file is not what a patch expects; the text names the file and the line."""


def _apply(tree: Path, patch: Path) -> None:
    """Apply a unified diff, byte for byte, allowing for nothing but moved lines.

    Raises _Mismatch; then some files of the tree may be patched.
    """
    for part in re.split(r"^--- ", patch.read_text(), flags=re.MULTILINE)[1:]:
        named = re.match(r"a/(\S+).*\n\+\+\+ b/\1", part)
        if named is None:
            raise FetchError(f"{patch} is no patch that vendor/fetch.py could read")
        path = tree / named[1]
        lines = path.read_bytes().decode("latin-1").split("\n") if path.is_file() else []
        moved = 0  # by how many lines this file is longer here than the patch says
        for hunk in re.split(r"^@@ ", part, flags=re.MULTILINE)[1:]:
            head, _, body = hunk.encode().decode("latin-1").partition("\n")
            changes = [(line[:1], line[1:]) for line in body.split("\n")[:-1]]
            old = [text for sign, text in changes if sign != "+"]
            new = [text for sign, text in changes if sign != "-"]
            first = int(head[1:].partition(",")[0].partition(" ")[0])
            at = _nearest(lines, old, first - 1 + moved)
            if at is None:
                raise _Mismatch(f"{named[1]}, line {first}")
            lines[at : at + len(old)] = new
            moved = at + len(new) - len(old) - first + 1
        path.write_bytes("\n".join(lines).encode("latin-1"))


def _nearest(lines: list[str], old: list[str], expected: int) -> int | None:
    """Return where these lines stand, as close to the expected place as possible."""
    if expected >= 0 and lines[expected : expected + len(old)] == old:
        return expected
    places = [at for at in range(len(lines)) if lines[at : at + len(old)] == old]
    return min(places, key=lambda place: abs(place - expected), default=None)


# Small things.


def _archive(lock: dict[str, Any]) -> mirrors.Archive:
    upstream = lock["upstream"]
    return mirrors.Archive(
        "libssh2", upstream["file"], "libs/libssh2", upstream["sha256"], _what_is_wanted(lock),
        "HUSSH_LIBSSH2_SOURCE", "vendor/libssh2.lock",
    )  # fmt: skip


def _what_is_wanted(lock: dict[str, Any]) -> str:
    version = lock["upstream"]["version"]
    return f"upstream's release libssh2-{version}.tar.gz ({lock['upstream']['site']})"


def _version(tree: Path) -> str:
    header = mirrors.read(tree / "include/libssh2.h")
    version = re.search(r'^#define LIBSSH2_VERSION\s+"([^"]+)"', header, re.MULTILINE)
    if version is None:
        raise FetchError(f"{tree} is no libssh2 source: include/libssh2.h names no version")
    return version[1]


def _our_patches(lock: dict[str, Any]) -> list[Path]:
    patches = sorted(PATCHES.glob("*.patch"))
    missing = sorted(set(lock["patches"]) - {path.name for path in patches})
    if missing:
        raise FetchError(f"vendor/patches lacks {missing[0]}; take a complete copy of hussh")
    return patches


def cache_folder() -> Path:
    named = os.environ.get("HUSSH_CACHE")
    if named:
        cache = Path(named)
    elif os.environ.get("XDG_CACHE_HOME"):
        cache = Path(os.environ["XDG_CACHE_HOME"], "hussh")
    else:
        try:
            cache = Path.home() / ".cache/hussh"
        except RuntimeError as error:
            raise FetchError("there is no home folder: set HUSSH_CACHE to a folder") from error
    cache = cache.absolute()
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    return cache


def _digest(*paths: Path) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(f"{path.name}\0{mirrors.sha256(path)}\n".encode())
    return total.hexdigest()


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _changed(tree: Path, record: dict[str, Any]) -> list[str]:
    """Return the files that are not what the release and the patches give."""
    edited = [
        name
        for name, digest in record["files"].items()
        if not (tree / name).is_file() or mirrors.sha256(tree / name) != digest
    ]
    return list(dict.fromkeys([*record["changed_files"], *edited]))


def _recorded(tree: Path) -> dict[str, Any]:
    nothing: dict[str, Any] = {"changed_files": [], "patches": {}, "files": {}}
    text = mirrors.read(tree / RECORD)
    return {**nothing, **json.loads(text)} if text else nothing


def main() -> int:
    """Print the folder; on failure one line on stderr and exit status 1."""
    try:
        path = prepare()
    except FetchError as error:
        print(f"vendor/fetch.py: {error}", file=sys.stderr)
        return 1
    print(path)
    changed = describe(path)["changed_files"]
    if changed:
        print(f"warning: unlike the release, {_few(changed)} changed in {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
