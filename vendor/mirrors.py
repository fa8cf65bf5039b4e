"""Gets a pinned archive of somebody's release from a mirror of Debian.

vendor/fetch.py uses it for libssh2, release/static_libraries.py for OpenSSL and zlib. It needs
nothing but the standard library and apt, and never touches the machine's own apt state.

A release is pinned by its checksum, so it does not matter who hands it out. The machine's Debian
mirror does: every suite that has this version, however it is patched there, shares one
`.orig.tar.gz` in the mirror's pool, which is asked for by its path.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Archive", "FetchError", "download", "read", "sha256", "verify"]

APT_ETC = Path("/etc/apt")
APT_HELPER = Path("/usr/lib/apt/apt-helper")
DEFAULT_MIRROR = "http://deb.debian.org/debian"
STEP_SECONDS = 100.0


class FetchError(Exception):
    """The source cannot be had; the text is one line and says what to do."""


class Archive(NamedTuple):
    """A packed release, pinned."""

    name: str
    #: What Debian calls the file, and the folder below the pool's component.
    file: str
    folder: str
    sha256: str
    #: For errors: what upstream calls the file, with the place to get it from; the variable that
    #: may name a copy; the lock that pins it.
    wanted: str
    variable: str
    lock: str


def download(archive: Archive, target: Path) -> None:
    """Get an archive from the first mirror that has it.

    Raises FetchError.
    """
    if not APT_HELPER.is_file():
        raise FetchError(
            f"no apt here to get the source of {archive.name} with: download {archive.wanted},"
            f" and name the file in {archive.variable}"
        )
    # The machine's own configuration counts: proxies and credentials are set there.
    options = {
        "APT::Sandbox::User": "root",
        "Acquire::Retries": "2",
        "Acquire::http::Timeout": "20",
        "Acquire::https::Timeout": "20",
    }
    command = [str(APT_HELPER), "-q", *(f"-o{key}={value}" for key, value in options.items())]
    refusals: list[str] = []
    for mirror in _mirrors():
        for component in ("main", "universe") if "ubuntu" in mirror else ("main",):
            url = f"{mirror}/pool/{component}/{archive.folder}/{archive.file}"
            done = _run([*command, "download-file", url, str(target), f"SHA256:{archive.sha256}"])
            if done.returncode == 0 and target.is_file():
                return
            refusals.append(f"{mirror}: {_reason(done)}")
    # A mirror's address may carry a password.
    reasons = re.sub(r"(://)[^/\s@]*@", r"\1", "; ".join(dict.fromkeys(refusals)))
    if "No space left" in reasons:
        raise FetchError(f"the disk is full ({target.parent}); make room or point HUSSH_CACHE")
    raise FetchError(
        f"no mirror gave {archive.file} ({reasons}); check the network and the mirrors in /etc/apt,"
        f" or download {archive.wanted}, and name the file in {archive.variable}"
    )


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Return the first thing that apt complains about, without the address, in a few words."""
    for line in (done.stderr + done.stdout).splitlines():
        if found := re.match(r"E: (?:Failed to fetch \S+\s+)?(.+)", line):
            return found[1].strip().rstrip(".")
    return f"exit status {done.returncode}"


def _mirrors() -> list[str]:
    """Return the machine's own mirrors of Debian or Ubuntu, and last Debian's public one."""
    found: list[str] = []
    for path in sorted((APT_ETC / "sources.list.d").glob("*.sources")):
        found += _deb822_uris(read(path))
    lists = [APT_ETC / "sources.list", *sorted((APT_ETC / "sources.list.d").glob("*.list"))]
    for path in lists:
        for line in read(path).splitlines():
            entry = re.match(r"\s*deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?(\S+)\s+\S+\s+(.*)", line)
            if entry and "main" in entry[2].split():
                found.append(entry[1])
    good: list[str] = []
    for uri in found:
        # apt reads such lists only for an index; the addresses in them are plain ones.
        indirect = uri.startswith("mirror+file:")
        text = read(Path(uri.removeprefix("mirror+file:"))) if indirect else uri
        good += [line.split()[0].rstrip("/") for line in text.splitlines() if line.strip()]
    # Security and third-party archives do not have it; what does is by custom called
    # "debian", also behind caches ("…/debian-remote").
    named = [uri for uri in good if re.search(r"/(debian|ubuntu)(?!-security)[^/]*$", uri)]
    usable = [re.sub("^file:", "copy:", uri) for uri in named if not uri.startswith("cdrom:")]
    return list(dict.fromkeys([*usable, DEFAULT_MIRROR]))


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


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - fixed commands, no shell
            command,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=STEP_SECONDS,
        )
    except subprocess.TimeoutExpired:
        reasons = f"E: nothing came in {STEP_SECONDS:.0f} s"
        return subprocess.CompletedProcess(command, 1, "", reasons)


def verify(path: Path, archive: Archive) -> None:
    """Raise FetchError if a file is not the archive."""
    found = sha256(path)
    if found != archive.sha256:
        raise FetchError(
            f"{path} has the wrong checksum: sha256 {found}, {archive.lock} says"
            f" {archive.sha256}; do not build from it, remove it and try again"
        )


def sha256(path: Path) -> str:
    """Return the checksum of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(path: Path) -> str:
    """Return the text of a file; empty if it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
