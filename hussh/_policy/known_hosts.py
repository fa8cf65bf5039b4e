"""Known hosts: which keys are recorded for a name, and whether a shown key may be trusted.

Owns the file format of OpenSSH (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), the
host key policies and the recording of new keys.  Sessions and facades import
it.  It never opens a connection and never asks anybody; its only effects are
`KnownHosts.load`, which reads files, and `record`, which appends one line.

Three places are stricter than ssh(1), each so that doubt means refusal:
a tab may follow a marker (ssh then drops the line, and a revocation with it);
a key revoked for the bare name is refused on every port; and a revoked key is
recognised in any encoding, while a known one must be equal byte for byte.
"""

from __future__ import annotations

import hmac
import os
import re
import shlex
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256

from ..errors import HostKeyError, ProtocolError
from .patterns import matches_list
from .wire import Reader

#: Names and contents.
Files = tuple[tuple[str, bytes], ...]

DEFAULT_FILE = "~/.ssh/known_hosts"
POLICIES = ("accept-unknown", "accept-new", "strict", "ignore")
REVOKED = "revoked"
CERT_AUTHORITY = "cert-authority"

_BLANK = b" \t"
_MARKERS = {b"@revoked": REVOKED, b"@cert-authority": CERT_AUTHORITY}
_CERT_SUFFIX = "-cert-v01@openssh.com"
_SHA1_SIZE = 20
# OpenSSH drops the whole line when one of its patterns does not fit its 1 KiB buffer.
_LONGEST_PATTERN = 1022
_WILD = re.compile(rb"[*?!]")
# What may stand in a line as it is: nothing that splits, comments, negates or matches more names.
_PLAIN_NAME = re.compile(rb"[A-Za-z0-9_.:%\[\]\x80-\xff-]+")

# How many strings follow the type in a key blob (RFC 4253 section 6.6, RFC 5656, RFC 8709).
_FIELD_COUNTS = {
    "ssh-ed25519": 1,
    "ssh-rsa": 2,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "ssh-dss": 4,
    "sk-ssh-ed25519@openssh.com": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
}
# One RSA key serves three signature algorithms (RFC 8332).
_RSA_NAMES = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")


class Outcome(Enum):
    """What a check came to; `Verdict.refused` tells good from bad."""

    ACCEPTED = "accepted"
    UNKNOWN_ACCEPTED = "unknown, accepted"
    UNKNOWN_RECORD = "unknown, to be recorded"
    UNCHECKED = "not checked"
    CHANGED = "changed"
    REVOKED = "revoked"
    UNKNOWN_REFUSED = "unknown, refused"
    UNSUPPORTED = "a host certificate, which cannot be verified"


_REFUSALS = {Outcome.CHANGED, Outcome.REVOKED, Outcome.UNKNOWN_REFUSED, Outcome.UNSUPPORTED}


@dataclass(frozen=True)
class Entry:
    """One usable line.

    Attributes:
        marker: "", "revoked" or "cert-authority".
        patterns: names as they stand in the file; a hashed name is one pattern.
        key_type: as the blob itself says, such as "ssh-rsa".
        line_number: counted from 1 within `file`.
    """

    marker: str
    patterns: tuple[str, ...]
    key_type: str
    key_blob: bytes
    line_number: int
    file: str

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.key_blob)

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line_number}"


@dataclass(frozen=True)
class Verdict:
    """The answer of `KnownHosts.check`.

    Attributes:
        name: the name looked up, ``[host]:port`` off port 22.
        fingerprint: of the key that the server showed.
        entries: the lines that decided it: those that match, or those that contradict.
        only_authorities: the name is known, but only through @cert-authority lines.
    """

    outcome: Outcome
    name: str
    fingerprint: str
    entries: tuple[Entry, ...] = ()
    only_authorities: bool = False

    @property
    def refused(self) -> bool:
        return self.outcome in _REFUSALS

    @property
    def must_record(self) -> bool:
        return self.outcome is Outcome.UNKNOWN_RECORD

    @property
    def recorded(self) -> tuple[str, ...]:
        """Fingerprints of the keys in `entries`, without repetition."""
        return tuple(dict.fromkeys(entry.fingerprint for entry in self.entries))


@dataclass(frozen=True)
class _Line:
    """A line whose names were read and whose key was not: most lines are for other hosts."""

    marker: str
    names: bytes
    key: bytes
    number: int
    file: str

    def entry(self) -> Entry | None:
        """None if the key is broken."""
        words = self.key.translate(None, b"\r\v\f").split(None, 2)
        blob = _decode_base64(words[1]) if len(words) > 1 else None
        key_type = blob_type(blob) if blob else None
        if blob is None or key_type is None:
            return None
        named = words[0].decode("ascii", "replace")
        if named != key_type and not (named in _RSA_NAMES and key_type in _RSA_NAMES):
            return None
        names = self.names.decode("utf-8", "surrogateescape")
        patterns = tuple(names.split(",")) if names[0] != "|" else (names,)
        return Entry(self.marker, patterns, key_type, blob, self.number, self.file)


class KnownHosts:
    """The lines of any number of known_hosts files, in order.

    Broken lines are skipped.  Reading is linear in the size of the files; a
    lookup costs one dictionary access, one HMAC for each hashed line and one
    match for each line with wildcards.
    """

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._exact: dict[bytes, tuple[int, ...]] = {}
        self._hashed: list[tuple[int, bytes, bytes]] = []
        self._wild: list[int] = []
        self._entries: dict[int, Entry | None] = {}  # of lines that were looked up

    @classmethod
    def load(cls, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> KnownHosts:
        """Read the files; ``~`` expands, and a file that does not exist is an empty one.

        Raises:
            HostKeyError: a file exists and cannot be read.
        """
        return cls.of(cls.read((paths,) if isinstance(paths, (str, os.PathLike)) else paths))

    @staticmethod
    def read(paths: Iterable[str | os.PathLike[str]]) -> Files:
        """Their names and contents, for `of`; those that do not exist are left out."""
        files = []
        for path in map(expand, paths):
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise HostKeyError(
                    f"cannot read the known hosts in {shlex.quote(path)}: {error.strerror}"
                ) from error
            files.append((path, data))
        return tuple(files)

    @classmethod
    def of(cls, files: Files) -> KnownHosts:
        """What these files hold."""
        known = cls()
        for path, data in files:
            known._add(data, path)
        return known

    def grown(self, old: object, new: Files) -> KnownHosts | None:
        """What the files hold now, if since `old` (what we hold) only the last one grew; else None.

        A batch with accept-new appends a line for each host.
        """
        if not (isinstance(old, tuple) and old and new and old[:-1] == new[:-1]):
            return None
        (path, before), (same, after) = old[-1], new[-1]
        if path != same or not before.endswith(b"\n") or not after.startswith(before):
            return None
        known = KnownHosts()
        known._lines, known._exact = self._lines.copy(), self._exact.copy()
        known._hashed, known._wild = self._hashed.copy(), self._wild.copy()
        known._add(after[len(before) :], path, before.count(b"\n") + 1)
        return known

    @classmethod
    def parse(cls, data: bytes, name: str = "") -> KnownHosts:
        """Read the content of one file; `name` is what entries give as their file."""
        known = cls()
        known._add(data, name)
        return known

    def _add(self, data: bytes, file: str, first: int = 1) -> None:
        for number, text in enumerate(data.split(b"\n"), first):
            line = _parse_line(text, number, file)
            if line is None:
                continue
            index = len(self._lines)
            names = line.names
            if names.startswith(b"|"):
                parsed = _parse_hash(names)
                if parsed is None:
                    continue
                self._hashed.append((index, *parsed))
            else:
                patterns = names.lower().split(b",")
                if any(len(pattern.removeprefix(b"!")) > _LONGEST_PATTERN for pattern in patterns):
                    continue
                if _WILD.search(names):
                    self._wild.append(index)
                else:
                    for name in set(patterns):
                        self._exact[name] = (*self._exact.get(name, ()), index)
            self._lines.append(line)

    def lookup(self, host: str, port: int = 22) -> list[Entry]:
        """Entries for exactly this name and port, in file order, as ``ssh-keygen -F`` finds them.

        Off port 22 the name is ``[host]:port`` and nothing else.  Upper and
        lower case are the same for ASCII letters.
        """
        return self._find(lookup_name(host, port))

    def _find(self, name: str) -> list[Entry]:
        raw = _encode(name)
        found = list(self._exact.get(raw, ()))
        found += [
            index
            for index, salt, digest in self._hashed
            if hmac.digest(salt, raw, "sha1") == digest
        ]
        found += [index for index in self._wild if matches_list(raw, self._lines[index].names)]
        entries = (self._entry(index) for index in sorted(found))
        return [entry for entry in entries if entry is not None]

    def _entry(self, index: int) -> Entry | None:
        if index not in self._entries:
            self._entries[index] = self._lines[index].entry()
        return self._entries[index]

    def key_types(self, host: str, port: int = 22) -> list[str]:
        """Types of the keys recorded for the host, in file order, for `algorithms_for`.

        Where `check` would fall back to the bare name, so does this.
        """
        plain = _plain(self.lookup(host, port))
        if not plain and port != 22:
            plain = _plain(self.lookup(host))
        return list(dict.fromkeys(entry.key_type for entry in plain))

    def check(
        self, host: str, port: int, key_blob: bytes, policy: str = "accept-unknown"
    ) -> Verdict:
        """Decide about the key that a server showed, as ssh(1) does.

        Any plain entry of the name that equals the key accepts it.  Plain
        entries and none equal: changed, even where the recorded keys are of
        another type.  No plain entry under ``[host]:port``: an equal key under
        the bare host name is accepted too.  A @cert-authority line vouches for
        certificates only, so a plain key beside it is unknown; certificates
        themselves are refused, because the library cannot verify them.

        Raises:
            ValueError: `policy` is not one of `POLICIES`.
        """
        if policy not in POLICIES:
            raise ValueError(f"host_key_policy must be one of {', '.join(POLICIES)}")
        name, shown = lookup_name(host, port), fingerprint(key_blob)
        if policy == "ignore":
            return Verdict(Outcome.UNCHECKED, name, shown)
        entries = self.lookup(host, port)
        bare = self.lookup(host) if port != 22 else []
        revoked = [e for e in entries + bare if e.marker == REVOKED and _same_key(e, key_blob)]
        if revoked:
            return Verdict(Outcome.REVOKED, name, shown, tuple(dict.fromkeys(revoked)))
        if (blob_type(key_blob) or "").endswith(_CERT_SUFFIX):
            return Verdict(Outcome.UNSUPPORTED, name, shown)
        plain = _plain(entries)
        equal = [e for e in plain or _plain(bare) if e.key_blob == key_blob]
        if equal:
            return Verdict(Outcome.ACCEPTED, name, shown, tuple(equal))
        if plain:
            return Verdict(Outcome.CHANGED, name, shown, tuple(plain))
        outcome = {
            "strict": Outcome.UNKNOWN_REFUSED,
            "accept-new": Outcome.UNKNOWN_RECORD,
            "accept-unknown": Outcome.UNKNOWN_ACCEPTED,
        }[policy]
        authority = any(entry.marker == CERT_AUTHORITY for entry in entries)
        return Verdict(outcome, name, shown, only_authorities=authority)


def lookup_name(host: str, port: int = 22) -> str:
    """The name under which a host is recorded; an alias is given verbatim with port 22."""
    return host if port == 22 else f"[{host}]:{port}"


def fingerprint(blob: bytes) -> str:
    """As ssh-keygen prints it: ``SHA256:`` and base64 without padding."""
    return "SHA256:" + b64encode(sha256(blob).digest()).decode("ascii").rstrip("=")


def algorithms_for(known_types: Sequence[str], offered: Sequence[str]) -> list[str]:
    """The offered host key algorithms, those first for which a key is recorded.

    Without this a server with keys of several types would show one that is
    not recorded, which looks like a changed key.
    """
    wanted = set(known_types)
    if "ssh-rsa" in wanted:
        wanted.update(_RSA_NAMES)
    return sorted(offered, key=lambda algorithm: algorithm not in wanted)


def known_hosts_line(host: str, port: int, key_blob: bytes, *, hashed: bool = False) -> bytes:
    """The line, with its newline, that records the key for the host.

    A name with characters that mean something in the file is always hashed.

    Raises:
        ValueError: `key_blob` is not a public key, or the host is empty.
    """
    key_type = blob_type(key_blob)
    name = _encode(lookup_name(host, port))
    if key_type is None or not host:
        raise ValueError("not a host name and a public key")
    if hashed or not _PLAIN_NAME.fullmatch(name):
        salt = os.urandom(_SHA1_SIZE)
        name = b"|1|%b|%b" % (b64encode(salt), b64encode(hmac.digest(salt, name, "sha1")))
    return b"%b %b %b\n" % (name, key_type.encode("ascii"), b64encode(key_blob))


def append_line(path: str | os.PathLike[str], line: bytes) -> None:
    """Add a line at the end of a file and touch nothing else in it.

    A missing file is made with mode 0600, missing folders with 0700.  The line
    goes out in one write in append mode, so that concurrent writers do not mix.

    Raises:
        OSError: the file cannot be opened or written.
    """
    where = expand(path)
    if where.startswith("~"):
        raise FileNotFoundError(f"no home folder is known for {where}")
    _make_folders(os.path.dirname(where))
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    fd = os.open(where, flags, 0o600)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(fd, line) != len(line):
            raise OSError(f"could not write a whole line to {where}")
    finally:
        os.close(fd)


def record(
    path: str | os.PathLike[str],
    host: str,
    port: int,
    key_blob: bytes,
    known: KnownHosts | None = None,
    *,
    hashed: bool = False,
) -> Verdict:
    """Record a new host key, as policy "accept-new" asks; the verdict may still be a refusal.

    Args:
        known: what the file holds just now; None: it is read.  It must be as new as that,
            for another connection may have recorded the same key meanwhile (then nothing is
            written) or a different one (then the verdict is "changed").

    Raises:
        HostKeyError: the file cannot be read or written.
    """
    known = known or KnownHosts.load(path)
    verdict = known.check(host, port, key_blob, "accept-new")
    if verdict.must_record:
        try:
            append_line(path, known_hosts_line(host, port, key_blob, hashed=hashed))
        except OSError as error:
            raise HostKeyError(
                f"cannot record the host key of {verdict.name} in {shlex.quote(expand(path))}: "
                f"{error.strerror or error}",
                host=verdict.name,
                fingerprint=verdict.fingerprint,
            ) from error
    return verdict


def host_key_error(verdict: Verdict) -> HostKeyError:
    """The error for a refused key, with what the user can do; the caller adds the hop."""
    name, shown = verdict.name, verdict.fingerprint
    places = ", ".join(entry.place for entry in verdict.entries)
    reason = "unknown"
    if verdict.outcome is Outcome.CHANGED:
        reason = "changed"
        removals = "; ".join(
            f"ssh-keygen -R {shlex.quote(name)} -f {shlex.quote(file)}"
            for file in dict.fromkeys(entry.file for entry in verdict.entries)
        )
        text = (
            f"the host key of {name} has changed: the server shows {shown}, recorded is "
            f"{', '.join(verdict.recorded)} at {places}; somebody may be in between. "
            f"If you know that the key was replaced, remove the old one: {removals}"
        )
    elif verdict.outcome is Outcome.REVOKED:
        reason = "revoked"
        text = f"the host key of {name}, {shown}, is revoked at {places}"
    elif verdict.outcome is Outcome.UNSUPPORTED:
        text = f"{name} shows a host certificate ({shown}), and these cannot be verified here"
    else:
        text = (
            f"the host key of {name}, {shown}, is not known and the policy is strict. "
            "Compare it with what the administrator says and add it to the known hosts, "
            'or connect once with host_key_policy="accept-new"'
        )
        if verdict.only_authorities:
            text += "; the name has @cert-authority lines, but these vouch for certificates only"
    return HostKeyError(
        text, host=name, reason=reason, fingerprint=shown, recorded=verdict.recorded
    )


def blob_type(blob: bytes) -> str | None:
    """The key type within a public key blob (RFC 4253 section 6.6); None if it is malformed.

    Of types that are not known here only the outer shape is looked at.
    """
    try:
        reader = Reader(blob)
        key_type = reader.string().decode("ascii")
        fields = [reader.string() for _ in range(_FIELD_COUNTS.get(key_type, 0))]
    except (ProtocolError, UnicodeDecodeError):
        return None
    if not key_type.isprintable() or not key_type or " " in key_type:
        return None
    if bool(fields) != reader.done or (key_type == "ssh-ed25519" and len(fields[0]) != 32):
        return None
    return key_type


def _same_key(entry: Entry, blob: bytes) -> bool:
    return _identity(entry.key_blob) == _identity(blob)


def _identity(blob: bytes) -> tuple[bytes, ...]:
    """What stays equal however a key is encoded, lest a revoked one come back in new clothes.

    Numbers may carry leading zeros, curve points may be compressed, and
    bytes may follow the last field.
    """
    try:
        reader = Reader(blob)
        key_type = reader.string()
        count = _FIELD_COUNTS[key_type.decode("ascii")]
        fields = [reader.string() for _ in range(count)]
    except (ProtocolError, UnicodeDecodeError, KeyError):
        return (blob,)
    if key_type in (b"ssh-rsa", b"ssh-dss"):
        fields = [field.lstrip(b"\0") for field in fields]
    elif b"ecdsa" in key_type and fields[1]:
        form, point = fields[1][0], fields[1][1:]
        if form in (4, 6, 7) and point:
            form, point = 2 + (point[-1] & 1), point[: len(point) // 2]
        fields[1] = bytes((form,)) + point
    return (key_type, *fields)


def _plain(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if not entry.marker]


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape").lower()


def expand(path: str | os.PathLike[str]) -> str:
    return os.path.expanduser(os.fspath(path))


def _make_folders(folder: str) -> None:
    if folder and not os.path.isdir(folder):
        _make_folders(os.path.dirname(folder))
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise


def _decode_base64(text: bytes) -> bytes | None:
    try:
        data = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return None
    return data if b64encode(data) == text else None


def _parse_line(text: bytes, number: int, file: str) -> _Line | None:
    """Split a line into marker, names and key; None for comments and what cannot be used."""
    # C strings end at a NUL, so OpenSSH does not see what follows one.
    text = text.partition(b"\0")[0].lstrip(_BLANK)
    if not text or text.startswith(b"#"):
        return None
    marker = ""
    if text.startswith(b"@"):
        word, text = _split_word(text)
        if word not in _MARKERS or text.startswith(b"@"):
            return None
        marker = _MARKERS[word]
    names, key = _split_word(text)
    return _Line(marker, names, key, number, file) if names and key else None


def _split_word(text: bytes) -> tuple[bytes, bytes]:
    end = re.search(rb"[ \t]", text)
    if end is None:
        return text, b""
    return text[: end.start()], text[end.end() :].lstrip(_BLANK)


def _parse_hash(names: bytes) -> tuple[bytes, bytes] | None:
    """Salt and HMAC-SHA1 of ``|1|salt|hash``."""
    parts = names.split(b"|")
    if len(parts) != 4 or parts[1] != b"1":
        return None
    salt, digest = _decode_base64(parts[2]), _decode_base64(parts[3])
    if salt is None or digest is None or not len(salt) == len(digest) == _SHA1_SIZE:
        return None
    return salt, digest
