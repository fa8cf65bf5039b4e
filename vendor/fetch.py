#!/usr/bin/env python3
"""Get the libssh2 source that hussh is built from: Debian's package plus vendor/patches.

Owns the download, its verification, the unpacking and the cache.  build_ffi.py may
import it (importing does nothing); it needs only the standard library, apt-get and GNU
patch.  It never touches the machine's own apt state and never leaves a half-made folder
where `prepare` would find it.

Environment: HUSSH_LIBSSH2_SOURCE names an unpacked source that replaces the download;
HUSSH_CACHE names the cache folder (else $XDG_CACHE_HOME/hussh, else ~/.cache/hussh).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["SOURCES", "FetchError", "describe", "prepare"]

HERE = Path(__file__).resolve().parent
LOCK = HERE / "libssh2.lock"
PATCHES = HERE / "patches"
KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)
APT_ETC = Path("/etc/apt")
DEFAULT_MIRROR = "http://deb.debian.org/debian"
DEBIAN_RECORD = Path(".pc/applied-patches")  # where dpkg-source, too, keeps this
OUR_RECORD = Path("hussh-patches.json")
STEP_SECONDS = 100.0

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


class FetchError(Exception):
    """The source cannot be had; the text is one line and says what to do."""


def prepare() -> Path:
    """Return a folder with the patched source (src/, include/); quick when cached.

    Raises FetchError.
    """
    try:
        lock = json.loads(LOCK.read_text())
        patches = _our_patches(lock)
        given = os.environ.get("HUSSH_LIBSSH2_SOURCE")
        if given:
            return _from_folder(Path(given), lock, patches)
        return _from_debian(lock, patches)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise FetchError(
            f"cannot prepare the libssh2 source:{where} {error.strerror or error};"
            " make room or point HUSSH_CACHE at a folder that can be written"
        ) from error


def describe(path: Path) -> dict[str, Any]:
    """What the source in `path` really is, for build_info.

    Keys: libssh2 (version), debian (revision or None), cves (fixed by the Debian patches
    that are applied), patches (file name of each of ours to its sha256), missing_cves
    (named in the lock, not fixed here: empty unless HUSSH_LIBSSH2_SOURCE was older).
    """
    header = (path / "include/libssh2.h").read_text(errors="replace")
    version = re.search(r'^#define LIBSSH2_VERSION\s+"([^"]+)"', header, re.MULTILINE)
    if version is None:
        raise FetchError(f"{path} is no libssh2 source: include/libssh2.h names no version")
    changelog = path / "debian/changelog"
    debian = None
    if changelog.is_file():
        with changelog.open(errors="replace") as lines:
            found = re.match(r"libssh2 \(([^)]+)\)", lines.readline())
        debian = found[1] if found else None
    cves = {
        found[0].upper()
        for name in _lines(path / DEBIAN_RECORD)
        if (found := re.search(r"cve-\d{4}-\d+", name, re.IGNORECASE))
    }
    wanted = json.loads(LOCK.read_text())["cves"]
    return {
        "libssh2": version[1],
        "debian": debian,
        "cves": sorted(cves, key=_natural),
        "patches": _recorded(path),
        "missing_cves": sorted(set(wanted) - cves, key=_natural),
    }


# The two ways to a source.


def _from_debian(lock: dict[str, Any], patches: list[Path]) -> Path:
    cache = _cache()
    # Two levels, so that a changed patch of ours costs no second download.
    pristine = cache / _pristine_name(lock)
    done = cache / f"libssh2-{_digest(LOCK, *patches)[:20]}"
    if (done / OUR_RECORD).is_file():
        return done
    if not pristine.is_dir():
        with _Staging(cache) as staging:
            _download(lock, staging)
            staging.publish(pristine)
    with _Staging(cache) as staging:
        _unpack(lock, pristine, staging.path)
        _apply_debian(staging.path)
        _apply_ours(staging.path, patches)
        _check_tree(staging.path, lock)
        staging.publish(done)
    return done


def _from_folder(given: Path, lock: dict[str, Any], patches: list[Path]) -> Path:
    if not (given / "src/transport.c").is_file():
        raise FetchError(
            f"HUSSH_LIBSSH2_SOURCE={given} has no src/transport.c;"
            " name the top folder of an unpacked libssh2 source, or unset it"
        )
    _check_tree(given, lock)
    cache = _cache()
    inputs = [path for top in ("src", "include", "debian", ".pc") for path in _files(given / top)]
    key = hashlib.sha256(_digest(LOCK, *patches).encode())
    for path in (*inputs, given / OUR_RECORD):
        if path.is_file():
            key.update(f"{path.relative_to(given)}\0{_digest(path)}\n".encode())
    done = cache / f"given-{key.hexdigest()[:20]}"
    if not (done / OUR_RECORD).is_file():
        with _Staging(cache) as staging:
            shutil.copytree(
                given,
                staging.path,
                dirs_exist_ok=True,
                symlinks=True,
                ignore=shutil.ignore_patterns(".git"),
            )
            _apply_debian(staging.path)
            _apply_ours(staging.path, patches)
            staging.publish(done)
    return done


def _pristine_name(lock: dict[str, Any]) -> str:
    pins = json.dumps([lock["upstream"], lock["debian"]], sort_keys=True)
    return f"debian-{hashlib.sha256(pins.encode()).hexdigest()[:20]}"


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


# Download.


def _download(lock: dict[str, Any], staging: _Staging) -> None:
    """Leave the three verified files of Debian's source package in the staging folder."""
    _need("apt-get", "apt", "on other systems set HUSSH_LIBSSH2_SOURCE to an unpacked source")
    keyring = next((path for path in KEYRINGS if path.is_file()), None)
    if keyring is None:
        raise FetchError(
            f"{KEYRINGS[0]} is missing: install debian-archive-keyring,"
            " or set HUSSH_LIBSSH2_SOURCE to an unpacked source"
        )
    with tempfile.TemporaryDirectory(prefix="tmp-", dir=staging.path.parent) as folder:
        apt = Path(folder)
        for name in ("lists/partial", "cache/archives/partial", "state"):
            (apt / name).mkdir(parents=True)
        (apt / "state/status").touch()
        suite = lock["debian"]["suite"]
        (apt / "sources.list").write_text(
            f"deb-src [signed-by={keyring}] {_mirror()} {suite} main\n"
        )
        # Given by -c, this is read after the machine's own configuration: proxies and
        # credentials set there stay, hooks and weaker signature rules do not.  An index
        # past its date, from a slow mirror or under a wrong clock, is good for half a
        # year: it can withhold a revision, but none older than the lock's is taken.
        (apt / "apt.conf").write_text(
            f"""#clear APT::Update;
#clear DPkg;
Dir::Etc::sourcelist "{apt}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{apt}/state";
Dir::State::lists "{apt}/lists";
Dir::State::status "{apt}/state/status";
Dir::Cache "{apt}/cache";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
APT::Get::AllowUnauthenticated "false";
APT::Get::Download-Only "true";
APT::Architecture "amd64";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Min-ValidTime "15552000";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
"""
        )
        options = ["-q", "-c", str(apt / "apt.conf")]
        _apt(["apt-get", *options, "update"], apt)
        shown = _apt(["apt-cache", *options, "showsrc", "--only-source", "libssh2"], apt)
        revision = _choose(re.findall(r"^Version: (\S+)$", shown, re.MULTILINE), lock)
        _apt(["apt-get", *options, "source", f"libssh2={revision}"], apt)

        orig = apt / lock["upstream"]["file"]
        _verify(orig, lock["upstream"]["sha256"])
        orig.rename(staging.path / orig.name)
        for name in (f"libssh2_{revision}.debian.tar.xz", f"libssh2_{revision}.dsc"):
            expected = lock["debian"]["sha256"].get(name)
            if expected is not None:
                _verify(apt / name, expected)
            (apt / name).rename(staging.path / name)


def _choose(offered: list[str], lock: dict[str, Any]) -> str:
    """The newest acceptable Debian revision of the pinned upstream version."""
    minimum = lock["debian"]["minimum"]
    upstream = lock["upstream"]["version"]
    good = [
        version
        for version in offered
        if version.rpartition("-")[0] == upstream and _natural(version) >= _natural(minimum)
    ]
    if not good:
        raise FetchError(
            f"the Debian mirror offers libssh2 {', '.join(offered) or 'not at all'}, not"
            f" {minimum} or a later revision; unpack that one and set HUSSH_LIBSSH2_SOURCE"
        )
    return max(good, key=_natural)


def _mirror() -> str:
    """The machine's own mirror of the Debian archive, or the public one."""
    lists = [APT_ETC / "sources.list", *sorted((APT_ETC / "sources.list.d").glob("*.list"))]
    found: list[str] = []
    for path in sorted((APT_ETC / "sources.list.d").glob("*.sources")):
        found += _deb822_uris(_read(path))
    for path in lists:
        for line in _read(path).splitlines():
            entry = re.match(r"\s*deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?(\S+)\s+\S+\s+(.*)", line)
            if entry and "main" in entry[2].split():
                found.append(entry[1])
    for uri in found:
        if uri.startswith("cdrom:"):
            continue
        # Security and third-party archives do not carry sid; what does is by custom
        # called "debian", also behind caches ("…/debian-remote") and in mirror lists.
        last = urllib.parse.urlsplit(uri).path.rstrip("/").rpartition("/")[2]
        if last.startswith("debian") and "security" not in last:
            return uri
    return DEFAULT_MIRROR


def _deb822_uris(text: str) -> Iterator[str]:
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[name] = fields.get(name, "") + " " + line.strip()
            else:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        enabled = fields.get("enabled", "yes").lower() not in ("no", "false", "0", "off")
        if enabled and "main" in fields.get("components", "").split():
            yield from fields.get("uris", "").split()


def _apt(command: list[str], folder: Path) -> str:
    done = _run(command, folder)
    if done.returncode == 0:
        return done.stdout
    errors = [
        line[3:] for line in (done.stderr + done.stdout).splitlines() if line.startswith("E: ")
    ]
    reason = errors[0] if errors else f"{command[0]} exit status {done.returncode}"
    # A mirror's address may carry a password.
    reason = re.sub(r"(://)[^/\s@]*@", r"\1", reason)
    if "No space left" in reason:
        raise FetchError(f"the disk is full ({folder}); make room or point HUSSH_CACHE elsewhere")
    raise FetchError(
        f"apt cannot get the libssh2 source ({reason.rstrip('.')}); check the network and the"
        " mirror in /etc/apt, or set HUSSH_LIBSSH2_SOURCE to an unpacked source"
    )


# Unpack and patch.


def _unpack(lock: dict[str, Any], pristine: Path, target: Path) -> None:
    orig = pristine / lock["upstream"]["file"]
    # Also when it comes from the cache: reading 1 MB costs nothing.
    _verify(orig, lock["upstream"]["sha256"])
    _extract(orig, target, strip=f"libssh2-{lock['upstream']['version']}/")
    (debian,) = pristine.glob("*.debian.tar.xz")
    expected = lock["debian"]["sha256"].get(debian.name)
    if expected is not None:
        _verify(debian, expected)
    _extract(debian, target, strip="")


def _extract(archive: Path, target: Path, strip: str) -> None:
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.name.rstrip("/") == strip.rstrip("/"):
                    continue
                name = member.name.removeprefix(strip)
                # Nothing but plain files and folders belongs into these two archives.
                if name.startswith("/") or ".." in name.split("/"):
                    raise FetchError(f"{archive.name} holds the odd path {member.name!r}")
                if member.isdir():
                    (target / name).mkdir(parents=True, exist_ok=True)
                elif member.isreg():
                    content = tar.extractfile(member)
                    if content is None:
                        raise FetchError(f"{archive.name}: {member.name!r} cannot be read")
                    path = target / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())
                    path.chmod(0o755 if member.mode & 0o100 else 0o644)
    except (tarfile.TarError, EOFError, ImportError) as error:
        raise FetchError(
            f"cannot unpack {archive} ({error}); remove it, and see that Python has lzma and zlib"
        ) from error


def _apply_debian(tree: Path) -> None:
    """Apply what debian/patches/series names, as dpkg-source would, and record it."""
    record = tree / DEBIAN_RECORD
    applied = _lines(record)
    for name in _lines(tree / "debian/patches/series"):
        if name not in applied:
            _patch(tree, tree / "debian/patches" / name)
            applied.append(name)
    record.parent.mkdir(exist_ok=True)
    record.write_text("".join(f"{name}\n" for name in applied))


def _apply_ours(tree: Path, patches: list[Path]) -> None:
    recorded = _recorded(tree)
    for path in patches:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if recorded.get(path.name) != digest:
            _patch(tree, path)
            recorded[path.name] = digest
    (tree / OUR_RECORD).write_text(json.dumps(recorded, indent=1))


def _patch(tree: Path, patch: Path) -> None:
    """Apply one patch exactly, or find that the tree has it already."""
    _need("patch", "patch")
    command = ["patch", "-p1", "--fuzz=0", "--force", "--no-backup-if-mismatch"]
    command += ["--reject-file=-", f"--input={patch}"]
    if _run([*command, "--reverse", "--dry-run"], tree).returncode == 0:
        return
    trial = _run([*command, "--dry-run"], tree)
    if trial.returncode:
        said = (trial.stdout + trial.stderr).strip().splitlines()
        reason = next((line for line in said if "FAILED" in line), said[-1] if said else "?")
        raise FetchError(
            f"patch {patch.name} does not apply ({reason.strip()}); this libssh2 source does not"
            " suit this version of hussh: use the revision named in vendor/libssh2.lock"
        )
    if _run(command, tree).returncode:
        raise FetchError(f"writing what patch {patch.name} changes failed; is the disk full?")


def _check_tree(tree: Path, lock: dict[str, Any]) -> None:
    found = describe(tree)["libssh2"]
    if found != lock["upstream"]["version"]:
        raise FetchError(
            f"{tree} is libssh2 {found}, hussh needs {lock['upstream']['version']}:"
            " its patches and csrc/ depend on that very source"
        )


# Small things.


def _our_patches(lock: dict[str, Any]) -> list[Path]:
    patches = sorted(PATCHES.glob("*.patch"))
    missing = sorted(set(lock["patches"]) - {path.name for path in patches})
    if missing:
        raise FetchError(f"vendor/patches lacks {missing[0]}; take a complete copy of hussh")
    return patches


def _cache() -> Path:
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


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - fixed commands, no shell
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=STEP_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(
            f"{command[0]} took longer than {STEP_SECONDS:.0f} s; check the network, or set"
            " HUSSH_LIBSSH2_SOURCE to an unpacked source"
        ) from error


def _need(tool: str, package: str, otherwise: str = "") -> None:
    if shutil.which(tool) is None:
        hint = f"; {otherwise}" if otherwise else ""
        raise FetchError(f"{tool} is missing: install the package {package}{hint}")


def _verify(path: Path, expected: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise FetchError(
            f"{path.name} has the wrong checksum: sha256 {found}, vendor/libssh2.lock says"
            f" {expected}; do not build from it, remove {path.parent} and try another mirror"
        )


def _digest(*paths: Path) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _natural(version: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", version)
    ]


def _files(top: Path) -> list[Path]:
    return sorted(path for path in top.rglob("*") if path.is_file())


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    """The entries of a quilt-style list: one per line, without comments."""
    return [line.split()[0] for line in _read(path).splitlines() if re.match(r"[^#\s]", line)]


def _recorded(tree: Path) -> dict[str, str]:
    text = _read(tree / OUR_RECORD)
    recorded: dict[str, str] = json.loads(text) if text else {}
    return recorded


def main() -> int:
    """Print the folder; on failure one line on stderr and exit status 1."""
    try:
        path = prepare()
    except FetchError as error:
        print(f"vendor/fetch.py: {error}", file=sys.stderr)
        return 1
    print(path)
    missing = describe(path)["missing_cves"]
    if missing:
        print(f"warning: {path} does not fix {', '.join(missing)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
