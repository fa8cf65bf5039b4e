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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from ...errors import HostKeyError
from ..file_limit import check_file_limit
from ..keys.public_key import CERTIFICATE, RSA_NAMES, blob_type, fingerprint, identity
from .known_hosts_line import (
    CERT_AUTHORITY,
    REVOKED,
    Entry,
    Line,
    encode,
    lookup_name,
    parse_hash,
    parse_line,
)
from .patterns import matches_list

#: Names and contents.
Files = tuple[tuple[str, bytes], ...]

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
    UNSUPPORTED = "a host certificate, which cannot be verified"


_REFUSALS = (Outcome.CHANGED, Outcome.REVOKED, Outcome.UNKNOWN_REFUSED, Outcome.UNSUPPORTED)


@dataclass(frozen=True)
class Verdict:
    """The answer of `Recorded.check`.

    Attributes:
        name: the name that was looked up, ``[host]:port`` for ports other than 22.
        key_blob: the key that the server presented.
        entries: the lines that decided it: those that match, or those that contradict.
        only_authorities: whether the name is known through @cert-authority lines only.
    """

    outcome: Outcome
    name: str
    key_blob: bytes
    entries: tuple[Entry, ...] = ()
    only_authorities: bool = False

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
        name: the name that was looked up, ``[host]:port`` for ports other than 22.
        key_types: types of the recorded keys, in file order, for `algorithms_for`. Where
            `check` would fall back to the bare name, they are those of the bare name.
    """

    __slots__ = ("key_types", "name", "_bare", "_entries", "_plain", "_trusted")

    def __init__(self, name: str, entries: list[Entry], bare: list[Entry]) -> None:
        self.name = name
        self._entries = entries
        self._bare = bare  # for ports other than 22: what is recorded for the bare name
        self._plain = _plain(entries)
        self._trusted = self._plain or _plain(bare)
        self.key_types = tuple(dict.fromkeys([entry.key_type for entry in self._trusted]))

    def check(self, key_blob: bytes, policy: str = "accept-unknown") -> Verdict:
        """Decide about the key that a server presents, as ssh(1) does.

        Any plain entry of the name that equals the key accepts it. If there are plain entries and
        none is equal, the key has changed, even if the recorded keys are of another type. If there
        is no plain entry under ``[host]:port``, an equal key under the bare host name is accepted,
        too. A @cert-authority line vouches for certificates only, so a plain key beside it is
        unknown. Certificates are refused, because the library cannot verify them.

        Raises:
            ValueError: `policy` is not one of `POLICIES`.
        """
        if policy not in POLICIES:
            raise ValueError(f"host_key_policy must be one of {', '.join(POLICIES)}")
        name, entries = self.name, self._entries
        if policy == "ignore":
            return Verdict(Outcome.UNCHECKED, name, key_blob)
        revoked = [
            entry
            for entry in entries + self._bare
            if entry.marker == REVOKED and _same_key(entry, key_blob)
        ]
        if revoked:
            return Verdict(Outcome.REVOKED, name, key_blob, tuple(dict.fromkeys(revoked)))
        equal = [entry for entry in self._trusted if entry.key_blob == key_blob]
        key_type = equal[0].key_type if equal else blob_type(key_blob)
        if key_type is not None and key_type.endswith(CERTIFICATE):
            return Verdict(Outcome.UNSUPPORTED, name, key_blob)
        if equal:
            return Verdict(Outcome.ACCEPTED, name, key_blob, tuple(equal))
        if self._plain:
            return Verdict(Outcome.CHANGED, name, key_blob, tuple(self._plain))
        outcome = {
            "strict": Outcome.UNKNOWN_REFUSED,
            "accept-new": Outcome.UNKNOWN_RECORD,
            "accept-unknown": Outcome.UNKNOWN_ACCEPTED,
        }[policy]
        authority = any(entry.marker == CERT_AUTHORITY for entry in entries)
        return Verdict(outcome, name, key_blob, only_authorities=authority)


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

    @classmethod
    def load(cls, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> KnownHosts:
        """Read the files; ``~`` expands, and a file that does not exist counts as empty.

        Raises:
            HostKeyError: a file exists and cannot be read.
        """
        return cls.of(cls.read((paths,) if isinstance(paths, (str, os.PathLike)) else paths))

    @staticmethod
    def read(paths: Iterable[str | os.PathLike[str]]) -> Files:
        """Return names and contents of the files, for `of`, without those that do not exist."""
        files = []
        for path in map(expand, paths):
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                doing = f"cannot read the known hosts in {shlex.quote(path)}"
                check_file_limit(error, doing, "hostkey")
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

    def grown(self, old: object, new: Files) -> KnownHosts | None:
        """Return the known hosts after an addition to the last file; None after any other change.

        `old` are the contents that this object has, `new` the present ones. A batch with accept-new
        appends a line for each host, and this parses the new lines only.
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
        """Read the content of one file; `name` is the file name that its entries give."""
        known = cls()
        known._add(data, name)
        return known

    def _add(self, data: bytes, file: str, first: int = 1) -> None:
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
        return self._find(lookup_name(host, port))

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
                self._entries[index] = self._lines[index].entry()
            entry = self._entries[index]
            if entry is not None:
                entries.append(entry)
        return entries

    def of_host(self, host: str, port: int = 22) -> Recorded:
        """Return what is recorded for a host, to be used more than once."""
        name = lookup_name(host, port)
        return Recorded(name, self._find(name), self._find(host) if port != 22 else [])

    def key_types(self, host: str, port: int = 22) -> list[str]:
        """See `Recorded.key_types`."""
        return list(self.of_host(host, port).key_types)

    def check(
        self, host: str, port: int, key_blob: bytes, policy: str = "accept-unknown"
    ) -> Verdict:
        """See `Recorded.check`."""
        return self.of_host(host, port).check(key_blob, policy)


def algorithms_for(known_types: Sequence[str], offered: Sequence[str]) -> list[str]:
    """Return the offered host key algorithms; those for which a key is recorded come first.

    Otherwise a server with keys of several types would present one that is not recorded, and that
    looks like a changed key.
    """
    wanted = set(known_types)
    if "ssh-rsa" in wanted:
        wanted.update(RSA_NAMES)
    return sorted(offered, key=lambda algorithm: algorithm not in wanted)


def host_key_error(verdict: Verdict) -> HostKeyError:
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


def _same_key(entry: Entry, blob: bytes) -> bool:
    return identity(entry.key_blob) == identity(blob)


def _plain(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if not entry.marker]


def expand(path: str | os.PathLike[str]) -> str:
    """Return the path as text, with the home folder in place of ``~``."""
    return os.path.expanduser(path)
