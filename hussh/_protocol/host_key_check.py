"""Decides whether the host key of one hop may be trusted, and records a new one.

`handshake` calls it between the key exchange and the login. `_policy/hostkeys` decides what is
recorded and what a policy makes of it. Here are the reading, the writing, the caller's own function
and the log, none of which may keep an event loop waiting.
"""

from __future__ import annotations

import inspect
import logging
from functools import partial

from .._native.link import Link
from .._policy.file_cache import KnownHostsFiles, get_known_hosts_files
from .._policy.hostkeys.configured_keys import list_configured_entries
from .._policy.hostkeys.host_certificate import read_certificate
from .._policy.hostkeys.host_key import HostKey, HostKeyCallback, get_verdict_status, make_host_key
from .._policy.hostkeys.known_hosts import (
    KnownHosts,
    Outcome,
    Recorded,
    Verdict,
    expand,
    make_host_key_error,
)
from .._policy.hostkeys.known_hosts_line import make_lookup_name
from .._policy.hostkeys.known_hosts_record import record
from .._policy.hostkeys.remembered import entries_for
from .._policy.keys.public_key import CERTIFICATE, count_rsa_bits, fingerprint, read_blob_type
from .._policy.options import Options
from .._policy.ssh_config.configured import NOT_CONFIGURED
from .._policy.wire import Reader
from ..errors import HostKeyError
from .core import Op, RunBlocking
from .story import HopStory, KeySeen

__all__ = ["check_host_key", "get_known_hosts", "read_recorded", "look_up_recorded"]

_log = logging.getLogger("hussh.hostkey")

#: How a story words what a check of a host key came to.
VERDICTS = {
    Outcome.ACCEPTED: "known",
    Outcome.UNKNOWN_ACCEPTED: "unknown, accepted unrecorded",
    Outcome.UNKNOWN_RECORD: "unknown, accepted and to be recorded",
    Outcome.UNCHECKED: "not checked",
    Outcome.CHANGED: "changed, refused",
    Outcome.REVOKED: "revoked, refused",
    Outcome.UNKNOWN_REFUSED: "unknown, refused",
    Outcome.MALFORMED: "a malformed host certificate, refused",
}

#: Of what was warned already: files, and names of hosts.  Once each is enough for a process.
_warned: set[tuple[str, ...]] = set()
WARNED_MAX = 100_000


def get_known_hosts(options: Options) -> KnownHostsFiles:
    """Return the files that are asked for this hop; their `load` raises HostKeyError."""
    is_asked = options.settings["host_key_policy"] != "ignore" and options.host_key_pins is None
    return get_known_hosts_files(options.known_hosts if is_asked else ())


def read_recorded(options: Options) -> Recorded:
    """Read what these files have for this hop.

    Raises:
        HostKeyError: a file exists and cannot be read.
    """
    return look_up_recorded(get_known_hosts(options).load(), options)


def look_up_recorded(known: KnownHosts, options: Options) -> Recorded:
    """Return what the known hosts, and the memory of this process, have for this hop."""
    host, port = _name(options)
    more = []
    if options.known_hosts and options.host_key_pins is None:
        more = entries_for(expand(options.known_hosts[0]), make_lookup_name(host, port))
    if options.configured is not NOT_CONFIGURED:
        more = [*more, *list_configured_entries(options.configured, host, port)]
    return known.look_up_host(host, port, more)


def _name(options: Options) -> tuple[str, int]:
    """Return the host and port that a key is looked up for; an alias stands for both."""
    alias = options.settings["host_key_alias"]
    return (alias, 22) if alias else (options.host, options.port)


def check_host_key(
    link: Link, options: Options, known: Recorded, hop: str, story: HopStory | None
) -> Op[None]:
    """Return if the host key may be trusted.

    Raises:
        HostKeyError: it may not. What a callable raises is passed on.
    """
    blob = link.hostkey
    policy = options.settings["host_key_policy"]
    _check_size(blob, options, known.name, story)
    if options.host_key_pins is not None:
        error = options.host_key_pins.refusal(known.name, blob)
        words = "pinned" if error is None else "not the pinned one, refused"
        verdict = Verdict(Outcome.UNCHECKED, known.name, blob)
        _tell(story, verdict, words)
        if error is not None:
            raise error
    elif isinstance(policy, str):
        yield from _check(blob, options, policy, known, hop, story)
    else:
        verdict = yield from _find_verdict(blob, "strict", known)
        is_trusted = yield from _ask(policy, verdict, options, hop)
        shown = get_verdict_status(verdict)
        _tell(story, verdict, f"{shown}, {'accepted' if is_trusted else 'refused'} by the caller")
        if not is_trusted:
            raise _make_caller_refusal(verdict)
    _check_authority(blob, options, known)
    if story is not None:
        story.note_trusted()


def _check_authority(blob: bytes, options: Options, known: Recorded) -> None:
    """Raise HostKeyError for a certificate that CASignatureAlgorithms does not permit."""
    permitted = options.configured.ca_algorithms
    certificate = None if permitted is None else read_certificate(blob)
    if permitted is None or certificate is None:
        return
    used = Reader(certificate.signature).text()
    if used not in permitted:
        raise HostKeyError(
            f"the certificate of {known.name} is signed with {used}, which CASignatureAlgorithms "
            f"in the ssh configuration does not permit: {', '.join(permitted)}",
            host=known.name,
            fingerprint=fingerprint(blob),
        )


def _check_size(blob: bytes, options: Options, name: str, story: HopStory | None) -> None:
    """Refuse an RSA key that is smaller than `required_rsa_size`."""
    size, least = count_rsa_bits(blob), options.settings["required_rsa_size"]
    if size is None or size >= least:
        return
    _tell(story, Verdict(Outcome.UNCHECKED, name, blob), "too small, refused")
    where = "RequiredRSASize in the ssh configuration"
    if "required_rsa_size" not in options.configured.names:
        where = f"required_rsa_size={size} accepts it, if no better key can be had there"
    raise HostKeyError(
        f"the host key of {name}, {fingerprint(blob)}, is an RSA key of {size} bits, and at least "
        f"{least} are required: {where}",
        host=name,
        reason="weak",
        fingerprint=fingerprint(blob),
    )


def _check(
    blob: bytes, options: Options, policy: str, known: Recorded, hop: str, story: HopStory | None
) -> Op[None]:
    """Apply one of the policies that have a name."""
    if known.problems and policy != "ignore":
        yield from _report(known, policy)
    verdict = yield from _find_verdict(blob, policy, known)
    _tell(story, verdict, VERDICTS[verdict.outcome])
    if verdict.must_record and options.known_hosts:
        path = options.known_hosts[0]
        file = get_known_hosts_files((path,))
        host, port = _name(options)
        key = verdict.key_blob
        verdict = yield RunBlocking(
            lambda _: record(path, host, port, key, file.load(), warn=_warn), dedupe_key=file
        )
    if verdict.refused:
        raise make_host_key_error(verdict)
    if verdict.outcome is Outcome.UNKNOWN_ACCEPTED and _is_new("host", verdict.name):
        objection = f"; {verdict.objection}" if verdict.objection else ""
        text = (
            f"HostKeyNotChecked: [{hop}] the host key of {verdict.name}, {verdict.fingerprint}, "
            f"is not known and was accepted unchecked{objection}; "
            'host_key_policy="strict" refuses it, "accept-new" records it'
        )
        yield RunBlocking(lambda _: _warn(text), detachable=True)


def _find_verdict(blob: bytes, policy: str, known: Recorded) -> Op[Verdict]:
    """Ask the known hosts; to check a certificate takes a moment."""
    check = partial(known.check, blob, policy)
    if (read_blob_type(blob) or "").endswith(CERTIFICATE) and policy != "ignore":
        verdict: Verdict = yield RunBlocking(lambda _: check(), detachable=True)
        return verdict
    return check()


def _tell(story: HopStory | None, verdict: Verdict, words: str) -> None:
    if story is not None:
        kind = read_blob_type(verdict.key_blob) or "unknown"
        places = tuple([entry.place for entry in verdict.entries])
        if verdict.objection:
            words += f" ({verdict.objection})"
        story.note_host_key(KeySeen(kind, verdict.fingerprint, verdict.name, words, places))


def _ask(policy: HostKeyCallback, verdict: Verdict, options: Options, hop: str) -> Op[bool]:
    algorithm = read_blob_type(verdict.key_blob) or ""
    shown = make_host_key(verdict, options.host, options.port, algorithm, hop)
    call = partial(_call, policy, shown)
    given = yield RunBlocking(call, detachable=True, in_caller=True)
    if inspect.isawaitable(given):
        # The driver of an event loop has awaited the result of a coroutine function.
        if inspect.iscoroutine(given):
            given.close()
        raise TypeError("host_key_policy= returned an awaitable, which nothing awaits here")
    if not isinstance(given, bool):
        kind = type(given).__name__
        raise TypeError(f"host_key_policy= must return True or False, not {kind}")
    return given


def _make_caller_refusal(verdict: Verdict) -> HostKeyError:
    status = get_verdict_status(verdict)
    return HostKeyError(
        f"the host key of {verdict.name}, {verdict.fingerprint}, was refused by the function "
        f"given as host_key_policy=; the known hosts say that it is {status}",
        host=verdict.name,
        reason=status if status in ("changed", "revoked") else "unknown",
        fingerprint=verdict.fingerprint,
        recorded=verdict.recorded if status == "changed" else (),
    )


def _call(policy: HostKeyCallback, shown: HostKey, _seconds_left: float | None) -> object:
    return policy(shown)


def _report(known: Recorded, policy: object) -> Op[None]:
    """Report once what is wrong with the files; with policy "strict" that is an error."""
    for file, problem in known.problems:
        text = f"the known hosts in {file} cannot be trusted: the file {problem}"
        if policy == "strict":
            raise HostKeyError(text, host=known.name)
        if _is_new("file", file, problem):
            yield RunBlocking(partial(_warn_of, text), detachable=True)


def _warn_of(text: str, _seconds_left: float | None) -> None:
    _warn(text)


def _warn(text: str) -> None:
    _log.warning("%s", text)


def _is_new(*what: str) -> bool:
    if what in _warned:
        return False
    if len(_warned) >= WARNED_MAX:
        _warned.clear()
    _warned.add(what)
    return True
