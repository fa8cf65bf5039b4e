"""Faults of bastion and target: report and log name hop, phase, cause, and what to do."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import hussh
import hussh.aio
from hussh import Connection, Report
from tests.auth.test_error_places import FAULTS, Fault, _unknown, place_of
from tests.hostkeys.lines import line
from tests.support.keys import Keys
from tests.support.sshd import Sshd

SECRET = "secret-4711"
#: By the name of the fault: what the advice is about.
ADVICE = {
    "unknown name": "spelling",
    "nobody listens": "nothing listens",
    "hangs up": "something else than sshd",
    "says why and hangs up": "fewer connections",
    "mute": "says nothing",
    "no SSH": "no SSH server",
    "mute in kex": "MTU",
    "ends in kex": "its log",
    "nothing in common": "algorithm",
    "bad signature": "changed on the way",
    "changed key": "administrator",
    "mute in auth": "LDAP",
    "ends in auth": "its log",
    "says goodbye": "hung up",
    "refuses": "user's name",
    "refuses the key": "authorized_keys",
}
#: The same for a target that the bastion says it cannot reach.
BEHIND = "Log in on the bastion"


def told(report: Report, records: list[logging.LogRecord]) -> str:
    """Return what the log tells at DEBUG; none of it, nor the report, holds a secret."""
    log = "\n".join(record.getMessage() for record in records if record.name.startswith("hussh."))
    for text in (log, str(report), repr(report), report.to_json()):
        assert SECRET not in text
    return log


def check(report: Report, log: str, hop: str, phase: str, says: str, advice: str) -> None:
    """Compare the end of a report, and of the log, with what it has to be."""
    assert not report.connected
    assert (report.hop, report.phase) == (hop, phase)
    assert says in report.cause
    assert advice in report.advice
    last = [text for text in log.splitlines() if text.startswith(f"[{hop}]")][-1]
    assert report.cause.split(", because: ")[0] in last
    assert f"failed at {hop} in phase {phase}" in str(report)
    assert report.to_dict()["error"] == report.error


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_of_bastion_and_target(
    fault: Fault,
    bastion: Sshd,
    keys: Keys,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A faulty first hop by threads and a faulty target by tasks; what is behind is not reached."""
    caplog.set_level(logging.DEBUG, "hussh")
    monkeypatch.setattr(socket, "getaddrinfo", _unknown(socket.getaddrinfo))
    known_hosts = tmp_path / "known_hosts"
    seconds = 0.4 if fault.direct[0] is hussh.ConnectTimeout else 20
    alice = bastion.alice
    jump = f"{alice.name}@{bastion.host}:{bastion.port}"
    with place_of(fault) as (host, port):
        known_hosts.write_text(line(f"[{host}]:{port}", keys.get(name="other-host")))
        credential: dict[str, Any] = {"private_key": keys.get(name="stranger").path}
        if not fault.key:
            credential = {"password": SECRET}
        options: dict[str, Any] = {"known_hosts": known_hosts, "username": "mallory"} | credential
        if fault.name != "changed key":
            options["known_hosts"] = []
        faulty = f"mallory@{host}:{port}"
        report = hussh.explain(
            "behind.invalid", proxy_jump=faulty, timeout=int(seconds * 1000), **options
        )
        log = told(report, caplog.records)
        check(report, log, faulty, fault.direct[1], fault.says, ADVICE[fault.name])
        assert [hop.state for hop in report.hops] == ["failed", "not reached"]
        assert report.hops[0].milliseconds
        assert report.hops[1].milliseconds == {}

        caplog.clear()
        carrier = hussh.aio.AsyncConnection(
            bastion.host, "alice", port=bastion.port, private_key=alice.key.path
        )
        made: list[Report] = []

        async def explain() -> None:
            made.append(
                await hussh.aio.explain(
                    host, port=port, proxy_jump=carrier, timeout=seconds + 0.4, **options
                )
            )

        anyio.run(explain, backend=("asyncio", "trio")[FAULTS.index(fault) % 2])
        (report,) = made
        hop, phase, says, advice = faulty, fault.direct[1], fault.says, ADVICE[fault.name]
        states = ["connected", "failed"]
        if fault.behind:
            hop, phase, says, advice = jump, "channel", f"refused the way to {host}", BEHIND
            states = ["failed", "not reached"]
        check(report, told(report, caplog.records), hop, phase, says, advice)
        assert [one.state for one in report.hops] == states
        assert report.hops[0].attempts[-1][1] == "accepted"


def broken_key(folder: Path, keys: Keys) -> dict[str, Any]:
    """Return a key file that holds no key."""
    path = folder / "broken"
    path.write_text("no key\n")
    return {"private_key": path}


REAL: list[tuple[str, Callable[[Path, Keys], dict[str, Any]], str, str, str]] = [
    ("KeyUnreadable", broken_key, "auth", "broken", "Check the path"),
    ("PassphraseRequired",
     lambda _, keys: {"private_key": keys.get(passphrase="x-4711").path},
     "auth", "passphrase", "ssh-add"),
    ("WrongPassphrase",
     lambda _, keys: {"private_key": keys.get(passphrase="x-4711").path, "password": SECRET},
     "auth", "passphrase", "password= is"),
    ("AuthenticationError", lambda *_: {"agent": False}, "auth", "no key to try", "user's name"),
    ("ProxyCommandError", lambda *_: {"proxy_command": "sh -c 'echo gone >&2; exit 7'"},
     "proxy", "gone", "by hand"),
    ("HostKeyError", lambda *_: {"host_key_policy": "strict", "known_hosts": []},
     "hostkey", "not known", "Compare the fingerprint"),
    ("HostKeyError", lambda folder, _: {"known_hosts": folder},
     "hostkey", "cannot read", "Mend the file"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "make", "phase", "says", "advice"), REAL)
def test_fault_of_ours(
    error: str,
    make: Callable[[Path, Keys], dict[str, Any]],
    phase: str,
    says: str,
    advice: str,
    target: Sshd,
    keys: Keys,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is wrong on this side is told as this side's, with what to do."""
    caplog.set_level(logging.DEBUG, "hussh")
    options: dict[str, Any] = {"username": "alice", "timeout": 20_000} | make(tmp_path, keys)
    report = hussh.explain(target.host, port=target.port, **options)
    hop = f"alice@{target.host}:{target.port}"
    check(report, told(report, caplog.records), hop, phase, says, advice)
    assert report.error == error


def test_forbidden_way(target: Sshd, sshd_factory: Callable[..., Sshd]) -> None:
    """A bastion that forbids the way is the one that failed, after it was connected by others."""
    strict = sshd_factory(options={"AllowTcpForwarding": "no"})
    alice = strict.alice
    with Connection(strict.host, strict.port, "alice", private_key=alice.key.path) as carrier:
        report = hussh.explain(
            target.host, port=target.port, username="alice", password=SECRET, proxy_jump=carrier
        )
        assert carrier.execute("echo alive").stdout == "alive\n"
    assert [hop.state for hop in report.hops] == ["failed", "not reached"]
    assert report.hops[0].banner.startswith("SSH-2.0-OpenSSH")
    assert "AllowTcpForwarding" in report.cause
    assert "administrator" in report.advice
    assert report.hop == f"alice@{strict.host}:{strict.port}"


def test_no_log_no_story(target: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody listens, connecting collects nothing."""
    monkeypatch.setattr("hussh._protocol.story.Story.__init__", None)
    with Connection(
        target.host, target.port, "alice", private_key=target.alice.key.path
    ) as connection:
        assert connection._plan.target.host == target.host
