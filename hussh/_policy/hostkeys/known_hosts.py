"""Looks up recorded host keys, and decides whether the key that a server presents may be trusted.

It owns the lookup and the host key policies. `known_hosts_line.py` parses lines,
`known_hosts_record.py` records new ones. Connecting imports it. It opens no connection, asks nobody
and writes nothing; its only effect is `KnownHosts.read`, which reads files.

It is stricter than ssh(1) in two points, so that doubt means refusal. A key that is revoked for the
bare name is refused on every port. A revoked key is recognised in any encoding, while a known one
must be equal byte for byte.
"""

from __future__ import annotations

import hmac
import os
import re
import shlex
import time
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from ...errors import HostKeyError, Phase
from ..file_limit import check_file_limit
from ..keys.public_key import CERTIFICATE, RSA_NAMES, fingerprint, get_identity, read_blob_type
from ..owned_fd import OwnedFd
from .host_certificate import HostCertificate, read_certificate
from .known_hosts_line import (
    CERT_AUTHORITY,
    REVOKED,
    Entry,
    Line,
    encode,
    make_lookup_name,
    parse_hash,
    parse_line,
)
from .known_hosts_text import decode_text
from .patterns import matches_list

#: Names and contents; in place of a content, as text, why it cannot be read.
Files = tuple[tuple[str, "bytes | str"], ...]

#: What ssh(1) reads; recording goes to the first.
USER_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
SYSTEM_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
DEFAULT_FILES = USER_FILES + SYSTEM_FILES

POLICIES = ("accept-unknown", "accept-new", "strict", "ignore")
# OpenSSH drops the whole line when one of its patterns does not fit its 1 KiB buffer.
_LONGEST_PATTERN = 1022
_WILD = re.compile(rb"[*?!]")


class Outcome(Enum):
    """How a check ended; `Verdict.refused` tells good from bad."""

    ACCEPTED = "accepted"
    UNKNOWN_ACCEPTED = "unknown, accepted"
    UNKNOWN_RECORD = "unknown, to be recorded"
    UNCHECKED = "not checked"
    CHANGED = "changed"
    REVOKED = "revoked"
    UNKNOWN_REFUSED = "unknown, refused"
    MALFORMED = "a host certificate that cannot be read"


_REFUSALS = (Outcome.CHANGED, Outcome.REVOKED, Outcome.UNKNOWN_REFUSED, Outcome.MALFORMED)


class Verdict(NamedTuple):
    """The answer of `Recorded.check`.

    Attributes:
        name: the name looked up, ``[host]:port`` off port 22.
        key_blob: the key that the server showed; of a certificate, the plain key in it.
        entries: the lines that decided it: those that match, or those that contradict.
        only_authorities: the name is known, but only through @cert-authority lines.
        objection: why the host certificate that was shown does not vouch for the key.
    """

    outcome: Outcome
    name: str
    key_blob: bytes
    entries: tuple[Entry, ...] = ()
    only_authorities: bool = False
    objection: str = ""

    @property
    def fingerprint(self) -> str:
        """``SHA256:…`` of the key that the server presented."""
        return fingerprint(self.key_blob)

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


class Recorded:
    """What is recorded for one host and port. A connection looks it up once and uses it twice.

    Attributes:
        name: the name looked up, ``[host]:port`` off port 22.
        key_types: of the recorded keys, in file order, for `order_algorithms`.  Where `check`
            would fall back to the bare name, these are that one's.
        has_authority: whether a @cert-authority line names the host, so that it should be
            asked for a certificate.
        problems: of the files, each with what is wrong with it.
    """

    __slots__ = ("has_authority", "key_types", "name", "problems", "_bare", "_entries", "_host",
                 "_plain", "_trusted")  # fmt: skip

    def __init__(
        self,
        name: str,
        entries: list[Entry],
        bare: list[Entry],
        host: str = "",
        problems: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.name = name
        self.problems = problems
        self._host = host or name  # what certificates name
        self._entries = entries
        self._bare = bare  # for ports other than 22: what is recorded for the bare name
        self._plain = _keep_plain(entries)
        self._trusted = self._plain or _keep_plain(bare)
        self.key_types = tuple(dict.fromkeys([entry.key_type for entry in self._trusted]))
        self.has_authority = any(entry.marker == CERT_AUTHORITY for entry in entries + bare)

    def check(
        self, key_blob: bytes, policy: str = "accept-unknown", now: float | None = None
    ) -> Verdict:
        """Decide about the key that a server presents, as ssh(1) does.

        A certificate of an authority that a @cert-authority line names for the host is accepted,
        unless it is not valid (`HostCertificate.find_objection`). Then, and without an authority,
        the plain key in it is checked.

        Any plain entry of the name that equals the key accepts it. If there are plain entries and
        none is equal, the key has changed, even if the recorded keys are of another type. If there
        is no plain entry under ``[host]:port``, an equal key under the bare host name is accepted,
        too. A @cert-authority line vouches for certificates only, so a plain key beside it is
        unknown.

        Args:
            now: the time for certificates, in seconds since 1970; None means the clock's.

        Raises:
            ValueError: `policy` is not one of `POLICIES`.
        """
        if policy not in POLICIES:
            raise ValueError(f"host_key_policy must be one of {', '.join(POLICIES)}")
        if policy == "ignore":
            return Verdict(Outcome.UNCHECKED, self.name, key_blob)
        if not (read_blob_type(key_blob) or "").endswith(CERTIFICATE):
            return self._find_revoked(key_blob) or self._check_plain(key_blob, policy, "")
        certificate = read_certificate(key_blob)
        if certificate is None:
            return Verdict(Outcome.MALFORMED, self.name, key_blob)
        revoked = self._find_revoked(certificate.key_blob, certificate.authority, key_blob)
        if revoked is not None:
            return revoked
        authorities = self._find_authorities(certificate)
        objection = "its authority is not one that a @cert-authority line names for this host"
        if authorities:
            objection = certificate.find_objection(self._host, time.time() if now is None else now)
            if not objection:
                key = certificate.key_blob
                return Verdict(Outcome.ACCEPTED, self.name, key, tuple(authorities))
        return self._check_plain(certificate.key_blob, policy, objection)

    def _find_authorities(self, certificate: HostCertificate) -> list[Entry]:
        return [
            entry
            for entry in self._entries + self._bare
            if entry.marker == CERT_AUTHORITY and entry.key_blob == certificate.authority
        ]

    def _find_revoked(self, *blobs: bytes) -> Verdict | None:
        """Return the refusal if one of these keys is revoked; the first is the server's own."""
        identities = {get_identity(blob) for blob in blobs}
        revoked = [
            entry
            for entry in self._entries + self._bare
            if entry.marker == REVOKED and get_identity(entry.key_blob) in identities
        ]
        if not revoked:
            return None
        return Verdict(Outcome.REVOKED, self.name, blobs[0], tuple(dict.fromkeys(revoked)))

    def _check_plain(self, key_blob: bytes, policy: str, objection: str) -> Verdict:
        name = self.name
        equal = [entry for entry in self._trusted if entry.key_blob == key_blob]
        if equal:
            return Verdict(Outcome.ACCEPTED, name, key_blob, tuple(equal))
        if self._plain:
            return Verdict(Outcome.CHANGED, name, key_blob, tuple(self._plain), False, objection)
        outcome = {
            "strict": Outcome.UNKNOWN_REFUSED,
            "accept-new": Outcome.UNKNOWN_RECORD,
            "accept-unknown": Outcome.UNKNOWN_ACCEPTED,
        }[policy]
        return Verdict(
            outcome, name, key_blob, only_authorities=self.has_authority, objection=objection
        )


class KnownHosts:
    """The lines of any number of known_hosts files, in order; broken lines are skipped.

    Reading is linear in the size of the files. A lookup costs one dictionary access, one HMAC for
    each hashed line and one match for each line with wildcards.
    """

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._exact: dict[bytes, tuple[int, ...]] = {}
        self._hashed: list[tuple[int, bytes, bytes]] = []
        self._wild: list[int] = []
        self._entries: dict[int, Entry | None] = {}  # of lines that were looked up
        #: Files with what is wrong with them: text that ssh(1) would not read, or no line.
        self.problems: list[tuple[str, str]] = []

    @classmethod
    def load(cls, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> KnownHosts:
        """Read the files; ``~`` expands, and a file that does not exist counts as empty.

        Raises:
            HostKeyError: a file exists and cannot be read.
        """
        return cls.of(cls.read((paths,) if isinstance(paths, (str, os.PathLike)) else paths))

    @staticmethod
    def read(paths: Iterable[str | os.PathLike[str]]) -> Files:
        """Their names and contents, for `of`; those that do not exist are left out.

        Raises:
            HostKeyError: one of them cannot be read.  Of the system's own files that is no
                error, but a problem of `KnownHosts.problems`: a user cannot mend them.
        """
        files: list[tuple[str, bytes | str]] = []
        for path in map(expand, paths):
            try:
                with (
                    OwnedFd(path, os.O_RDONLY | os.O_CLOEXEC) as fd,
                    open(fd, "rb", closefd=False) as file,
                ):
                    data = file.read()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                doing = f"cannot read the known hosts in {shlex.quote(path)}"
                check_file_limit(error, doing, Phase.HOSTKEY)
                if path in SYSTEM_FILES:
                    files.append((path, f"cannot be read: {error.strerror}"))
                    continue
                raise HostKeyError(f"{doing}: {error.strerror}") from error
            files.append((path, data))
        return tuple(files)

    @classmethod
    def of(cls, files: Files) -> KnownHosts:
        """Parse the contents of files that `read` returned."""
        known = cls()
        for path, data in files:
            known._add(data, path)
        return known

    def grow(self, old: object, new: Files) -> KnownHosts | None:
        """Return the known hosts after an addition to the last file; None after any other change.

        `old` are the contents that this object has, `new` the present ones. A batch with accept-new
        appends a line for each host, and this parses the new lines only.
        """
        if not (isinstance(old, tuple) and old and new and old[:-1] == new[:-1]):
            return None
        (path, before), (same, after) = old[-1], new[-1]
        if self.problems or not isinstance(before, bytes) or not isinstance(after, bytes):
            return None
        if path != same or not before.endswith(b"\n") or not after.startswith(before):
            return None
        known = KnownHosts()
        known._lines, known._exact = self._lines.copy(), self._exact.copy()
        known._hashed, known._wild = self._hashed.copy(), self._wild.copy()
        known._add(after[len(before) :], path, before.count(b"\n") + 1)
        return known

    @classmethod
    def parse(cls, data: bytes, name: str = "") -> KnownHosts:
        """Read the content of one file; `name` is the file name that its entries give."""
        known = cls()
        known._add(data, name)
        return known

    def _add(self, data: bytes | str, file: str, first: int = 1) -> None:
        if isinstance(data, str):
            self.problems.append((file, data))
            return
        data, problem = decode_text(data)
        before = len(self._lines)
        self._add_lines(data, file, first)
        is_new = first == 1 and not problem and _has_lines(data)
        if is_new and not any(line.parse_entry() for line in self._lines[before:]):
            problem = "has no line that can be read"
        if problem:
            self.problems.append((file, problem))

    def _add_lines(self, data: bytes, file: str, first: int) -> None:
        for number, text in enumerate(data.split(b"\n"), first):
            line = parse_line(text, number, file)
            if line is None:
                continue
            index = len(self._lines)
            names = line.names
            if names.startswith(b"|"):
                parsed = parse_hash(names)
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
        """Return the entries for exactly this name and port, in file order, as ``ssh-keygen -F``.

        For ports other than 22 the name is ``[host]:port`` and nothing else. ASCII letters match in
        upper and lower case.
        """
        return self._find(make_lookup_name(host, port))

    def _find(self, name: str) -> list[Entry]:
        raw = encode(name)
        found = list(self._exact.get(raw, ()))
        for index, salt, digest in self._hashed:
            if hmac.digest(salt, raw, "sha1") == digest:
                found.append(index)
        for index in self._wild:
            if matches_list(raw, self._lines[index].names):
                found.append(index)
        entries = []
        for index in sorted(found):
            if index not in self._entries:
                self._entries[index] = self._lines[index].parse_entry()
            entry = self._entries[index]
            if entry is not None:
                entries.append(entry)
        return entries

    def look_up_host(self, host: str, port: int = 22, more: Sequence[Entry] = ()) -> Recorded:
        """Return what is recorded for a host, to be used more than once; `more` is added to it."""
        name = make_lookup_name(host, port)
        bare = self._find(host) if port != 22 else []
        return Recorded(name, [*self._find(name), *more], bare, host, self.problems)

    def list_key_types(self, host: str, port: int = 22) -> list[str]:
        """See `Recorded.key_types`."""
        return list(self.look_up_host(host, port).key_types)

    def check(
        self, host: str, port: int, key_blob: bytes, policy: str = "accept-unknown"
    ) -> Verdict:
        """Decide as `Recorded.check`, after a look-up of the host."""
        return self.look_up_host(host, port).check(key_blob, policy)


def order_algorithms(
    known_types: Sequence[str], offered: Sequence[str], has_authority: bool = False
) -> list[str]:
    """Return the offered host key algorithms; those for which a key is recorded come first.

    Otherwise a server with keys of several types would present one that is not recorded, and that
    looks like a changed key.

    Certificates come first if an authority is recorded for the host. Otherwise they are left out,
    because nothing could come of them.
    """
    wanted = set(known_types)
    if "ssh-rsa" in wanted:
        wanted.update(RSA_NAMES)
    certificates = [name for name in offered if name.endswith(CERTIFICATE)]
    plain = [name for name in offered if not name.endswith(CERTIFICATE)]
    plain.sort(key=lambda algorithm: algorithm not in wanted)
    return [*certificates, *plain] if has_authority else plain


def make_host_key_error(verdict: Verdict) -> HostKeyError:
    """Return the error for a refused key.

    Its text says what the user can do; the caller adds the hop.
    """
    name, shown = verdict.name, verdict.fingerprint
    places = ", ".join(entry.place for entry in verdict.entries)
    reason = "unknown"
    if verdict.outcome is Outcome.CHANGED:
        reason = "changed"
        removals = "; ".join(
            f"ssh-keygen -R {shlex.quote(name)} -f {shlex.quote(file)}"
            for file in dict.fromkeys(entry.file for entry in verdict.entries if entry.file)
        )
        advice = f"remove the old one: {removals}" if removals else "connect in a new process"
        text = (
            f"the host key of {name} has changed: the server shows {shown}, recorded is "
            f"{', '.join(verdict.recorded)} at {places}; somebody may be in between. "
            f"If you know that the key was replaced, {advice}"
        )
    elif verdict.outcome is Outcome.REVOKED:
        reason = "revoked"
        text = f"the host key of {name}, {shown}, is revoked at {places}"
    elif verdict.outcome is Outcome.MALFORMED:
        text = f"{name} shows a host certificate that is malformed"
    else:
        text = (
            f"the host key of {name}, {shown}, is not known and the policy is strict. "
            "Compare it with what the administrator says and add it to the known hosts, "
            'or connect once with host_key_policy="accept-new"'
        )
        if verdict.only_authorities:
            text += "; the name has @cert-authority lines, but these vouch for certificates only"
    if verdict.objection:
        text += f"; the server shows a host certificate, but {verdict.objection}"
    return HostKeyError(
        text, host=name, reason=reason, fingerprint=shown, recorded=verdict.recorded
    )


def _has_lines(data: bytes) -> bool:
    """Whether there is anything but blank lines and comments."""
    lines = (line.strip() for line in data.split(b"\n"))
    return any(line and not line.startswith(b"#") for line in lines)


def _keep_plain(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if not entry.marker]


def expand(path: str | os.PathLike[str]) -> str:
    """Return the path as text, with the home folder in place of ``~``."""
    return os.path.expanduser(path)
