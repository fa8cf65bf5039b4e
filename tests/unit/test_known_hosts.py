"""known_hosts: the file format, agreement with ssh-keygen, and policies."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hussh._policy.hostkeys.known_hosts import (
    KnownHosts,
    Outcome,
    Verdict,
    make_host_key_error,
    order_algorithms,
)
from hussh._policy.hostkeys.known_hosts_line import make_known_hosts_line, make_lookup_name
from hussh._policy.hostkeys.known_hosts_record import record
from hussh._policy.keys.public_key import fingerprint
from hussh._policy.wire import mpint, string
from hussh.errors import HostKeyError
from tests.support.alphabet import ANY_CHARACTER
from tests.support.public_keys import P256_POINT, ecdsa, ed25519, line, rsa

LONG = os.environ.get("HUSSH_LONG") == "1"
PURE = settings(deadline=None, database=None, max_examples=1000 if LONG else 100)

A, B, R, E = ed25519(1), ed25519(2), rsa(3), ecdsa()


def check(data: bytes, host: str, blob: bytes, port: int = 22, policy: str = "strict") -> Verdict:
    return KnownHosts.parse(data, "file").check(host, port, blob, policy)


# The file format


@pytest.mark.parametrize(
    ("names", "host", "port", "found"),
    [
        ("a.example", "a.example", 22, True),
        ("a.example", "A.Example", 22, True),
        ("A.EXAMPLE", "a.example", 22, True),
        ("a.example,b.example", "b.example", 22, True),
        ("a.example", "a.example.", 22, False),
        ("a.example", "a.example", 2222, False),
        ("[a.example]:2222", "a.example", 2222, True),
        ("[a.example]:2222", "a.example", 22, False),
        ("[a.example]:22", "a.example", 22, False),
        ("[*.example]:2222", "a.example", 2222, True),
        ("::1", "::1", 22, True),
        ("[::1]:2222", "::1", 2222, True),
        ("fe80::1%eth0", "fe80::1%eth0", 22, True),
        ("*.example", "a.b.example", 22, True),
        ("*.example", "example", 22, False),
        ("?.example", "a.example", 22, True),
        ("?.example", "ab.example", 22, False),
        ("a*b?c*d", "a-b-b.c--d", 22, True),
        ("a*b?c*d", "a-b.c--e", 22, False),
        ("*a*", "bab", 22, True),
        ("ab*ba", "aba", 22, False),
        ("*,!a.example", "a.example", 22, False),
        ("!a.example,*", "b.example", 22, True),
        ("!a.example", "b.example", 22, False),
        ("!*.bad,*", "x.bad", 22, False),
        ("b\u00fccher.example", "b\u00fccher.example", 22, True),
        ("*,!" + "x" * 1022, "a", 22, True),
        ("*,!" + "x" * 1023, "a", 22, False),
    ],
)
def test_names(names: str, host: str, port: int, found: bool) -> None:
    """Names, lists, wildcards, negations and ports match as OpenSSH matches them."""
    known = KnownHosts.parse(line(names, A))
    assert bool(known.lookup(host, port)) is found


def test_entry_fields() -> None:
    """An entry says where it stands and what it holds."""
    data = b"# comment\n\n" + line("a,b", A) + line("a", R, "@revoked") + line("a", B)
    first, second, third = KnownHosts.parse(data, "some/file").lookup("a")
    assert (first.patterns, first.key_type, first.key_blob) == (("a", "b"), "ssh-ed25519", A)
    assert (first.place, second.place, third.place) == (
        "some/file:3",
        "some/file:4",
        "some/file:5",
    )
    assert (first.marker, second.marker, third.marker) == ("", "revoked", "")
    assert second.key_type == "ssh-rsa"


@pytest.mark.parametrize(
    "text",
    [
        b"a",
        b"a ssh-ed25519",
        b"a ssh-ed25519 AAAA",
        b"a ssh-ed25519 !!!!",
        b"a ssh-rsa " + b64encode(A),
        b"a ssh-ed25519 " + b64encode(A)[:-4],
        b"a ssh-ed25519 " + b64encode(A + b"x"),
        b"a 1024 35 1234567890",
        b"a # " + b64encode(A),
        b"#a ssh-ed25519 " + b64encode(A),
        b"@unknown a ssh-ed25519 " + b64encode(A),
        b"@revoked @revoked a ssh-ed25519 " + b64encode(A),
        b"@revoked",
        b"|1|c2FsdA==|aGFzaA== ssh-ed25519 " + b64encode(A),
        b"|2|x|y ssh-ed25519 " + b64encode(A),
        b"a\0b ssh-ed25519 " + b64encode(A),
    ],
)
def test_broken_lines_are_skipped(text: bytes) -> None:
    """A line that cannot be used changes nothing about the others."""
    known = KnownHosts.parse(text + b"\n" + line("a", B))
    assert [entry.key_blob for entry in known.lookup("a")] == [B]


def test_loose_spacing() -> None:
    """Tabs, leading blanks, comments, CRLF, what follows a NUL, and a missing newline are fine."""
    key = b"ssh-ed25519 " + b64encode(A)
    lines = [b" \ta\t" + key + b"\t# c\r", b"a " + key + b"\r", b"a " + key + b"\0\xff"]
    lines += [b"@revoked\ta " + key, b"a  " + key]
    entries = KnownHosts.parse(b"\n".join(lines)).lookup("a")
    assert [entry.marker for entry in entries] == ["", "", "", "revoked", ""]


def test_unknown_key_types_count_as_recorded() -> None:
    """A key of a type from the future is an entry: its name is known, not new."""
    blob = string(b"ssh-future@example.com") + string(b"key")
    assert check(line("a", blob), "a", blob).outcome is Outcome.ACCEPTED
    assert check(line("a", blob), "a", A).outcome is Outcome.CHANGED


@PURE
@given(st.binary(max_size=400), st.text(ANY_CHARACTER, max_size=20), st.integers(1, 65535))
@example(b"|1||\n@\n!\n*\n* *\n, x\n@revoked", "a", 22)
def test_any_bytes(data: bytes, host: str, port: int) -> None:
    """No content makes reading, looking up or checking fail."""
    known = KnownHosts.parse(data)
    assert known.lookup(host, port) == []
    assert known.check(host, port, A).outcome is Outcome.UNKNOWN_ACCEPTED
    assert known.check(host, port, data, "strict").refused


PIECES = [b"a", b"*", b"?", b"!", b",", b" ", b"\t", b"\n", b"\r", b"\0", b"#", b"|1|", b"\xff"]
PIECES += [b"@revoked ", b"@cert-authority ", b"[a]:2", b" ssh-ed25519 ", b64encode(A)]


@PURE
@given(st.lists(st.sampled_from([*PIECES, line("a", A)]), max_size=40).map(b"".join))
def test_near_valid_bytes(data: bytes) -> None:
    """Pieces of real lines in any order never fail, and every entry found is a whole key."""
    known = KnownHosts.parse(data, "f")
    for entry in known.lookup("a") + known.lookup("a", 2):
        assert entry.key_blob == A
        assert b64encode(A) in data.split(b"\n")[entry.line_number - 1]


def naive_match(name: str, pattern: str) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(expression, name, re.DOTALL) is not None


@PURE
@given(st.text("ab", min_size=1, max_size=10), st.text("ab*?", min_size=1, max_size=8))
def test_wildcards_against_regular_expressions(name: str, pattern: str) -> None:
    """The matcher without backtracking agrees with one that backtracks."""
    found = KnownHosts.parse(line(pattern, A)).lookup(name)
    assert bool(found) is naive_match(name, pattern)


def test_wildcards_do_not_backtrack() -> None:
    """A pattern that takes a backtracking matcher for ever is answered at once."""
    known = KnownHosts.parse(line("*a" * 500 + "b", A) + line("*?a" * 300 + "b", A))
    assert known.lookup("a" * 1000) == []


def test_several_files(tmp_path: Path) -> None:
    """Files are read in order, and a missing one is empty."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(line("a", A))
    second.write_bytes(line("a", B))
    known = KnownHosts.load([first, tmp_path / "missing", first / "below-a-file", second])
    assert [entry.place for entry in known.lookup("a")] == [f"{first}:1", f"{second}:1"]
    assert len(KnownHosts.load(str(second)).lookup("a")) == 1


def test_home_expands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde stands for the home folder, in reading and in recording."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert record("~/.ssh/known_hosts", "a", 22, A).must_record
    assert KnownHosts.load("~/.ssh/known_hosts").lookup("a")
    assert (tmp_path / ".ssh" / "known_hosts").exists()


def test_unreadable_file(tmp_path: Path) -> None:
    """A file that is there and cannot be read is an error that names it, never an empty file."""
    with pytest.raises(HostKeyError, match=re.escape(f"{tmp_path}: Is a directory")) as caught:
        KnownHosts.load(tmp_path)
    assert isinstance(caught.value, OSError)
    assert caught.value.phase == "hostkey"


# Agreement with OpenSSH

needs_keygen = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="no ssh-keygen here")

HOSTS = ["a", "b", "ab", "ba.b", "a.b.example", "b.example", "127.0.0.1", "::1", "fe80::1%lo"]
KEYS = [A, B, R, E, ed25519(4), rsa(5)]


def keygen_find(name: str, file: Path) -> list[tuple[int, str, str]]:
    """Line, marker and fingerprint of each usable entry that ssh-keygen finds."""
    command = ["ssh-keygen", "-l", "-F", name, "-f", str(file)]
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    found = re.findall(rb"found: line (\d+) *(\w*)\n.* (SHA256:\S+)", output)
    return [(int(number), word.decode(), print_.decode()) for number, word, print_ in found]


def our_find(known: KnownHosts, host: str, port: int) -> list[tuple[int, str, str]]:
    words = {"": "", "revoked": "REVOKED", "cert-authority": "CA"}
    return [
        (entry.line_number, words[entry.marker], entry.fingerprint)
        for entry in known.lookup(host, port)
    ]


def make_pattern(rng: random.Random) -> str:
    name = make_lookup_name(rng.choice(HOSTS), rng.choice([22, 22, 2222]))
    kind = rng.randrange(6)
    if kind == 1:
        name = name.upper()
    elif kind == 2:
        at = rng.randrange(len(name))
        name = name[:at] + rng.choice("?*") + name[at + rng.randrange(3) :]
    elif kind == 3:
        name = "".join(rng.choice([char] * 4 + ["?", "*", "**"]) for char in name)
    elif kind == 4:
        name = rng.choice(["*", "?", "*.example", "", "[*]:2222", "*:*"])
    return "!" * (rng.randrange(5) == 0) + name


def make_line(rng: random.Random) -> bytes:
    blob = rng.choice(KEYS)
    kind = rng.randrange(12)
    if kind == 0:
        return rng.choice([b"", b"# a", b" \t", b"a", b"nonsense here", b"@revoked a", b"@x a b c"])
    if kind < 4:
        text = make_known_hosts_line(rng.choice(HOSTS), rng.choice([22, 2222]), blob, hashed=True)[
            :-1
        ]
        if kind == 3:
            at = rng.randrange(40)
            text = text[:at] + rng.choice([b"A", b"|", b"=", b""]) + text[at + 1 :]
        return text
    names = ",".join(make_pattern(rng) for _ in range(rng.randrange(1, 4))) or "a"
    marker = rng.choice([""] * 6 + ["@revoked", "@cert-authority", "@other", "@revoked @revoked"])
    text = line(names, blob, marker, rng.choice(["", "", " c", "\t# c", "\r"]))
    if kind == 4:
        text = text.replace(b" ssh", b" \t ssh")
    elif kind == 5:
        text = text[: -rng.randrange(1, 30)]
    elif kind == 6:
        text = text.replace(b" ssh-rsa", b" ssh-ed25519")
    return rng.choice([b"", b"", b"", b" ", b"\t"]) + text


@needs_keygen
def test_agrees_with_ssh_keygen(tmp_path: Path) -> None:
    """Same lines, markers and fingerprints as ``ssh-keygen -F`` on generated files."""
    rng = random.Random(20)
    pairs = hits = 0
    while pairs < (5000 if LONG else 250):
        data = b"\n".join(make_line(rng) for _ in range(rng.randrange(1, 25))) + b"\n"
        file = tmp_path / "known_hosts"
        file.write_bytes(data)
        known = KnownHosts.load(file)
        for host in rng.sample(HOSTS, 5):
            port = rng.choice([22, 22, 2222, 2200])
            expected = keygen_find(make_lookup_name(host, port), file)
            assert our_find(known, host.upper(), port) == expected, (host, port, data)
            pairs += 1
            hits += len(expected)
    assert hits > pairs


@needs_keygen
def test_reads_what_ssh_keygen_hashes(tmp_path: Path) -> None:
    """A file hashed by ``ssh-keygen -H`` gives the same keys as before."""
    file = tmp_path / "known_hosts"
    file.write_bytes(line("a,[a]:2222,::1", A) + line("UPPER.example", R) + line("*.wild", B))
    plain = KnownHosts.load(file)
    subprocess.run(["ssh-keygen", "-H", "-f", str(file)], check=True, capture_output=True)
    hashed = KnownHosts.load(file)
    assert b"upper" not in file.read_bytes().lower()
    for host, port in [("a", 22), ("a", 2222), ("::1", 22), ("Upper.Example", 22), ("x.wild", 22)]:
        before = [entry.key_blob for entry in plain.lookup(host, port)]
        assert before
        assert [entry.key_blob for entry in hashed.lookup(host, port)] == before


@needs_keygen
@pytest.mark.parametrize("hashed", [False, True])
def test_ssh_keygen_reads_what_we_record(tmp_path: Path, hashed: bool) -> None:
    """A recorded line is found by ``ssh-keygen -F`` under the same name."""
    file = tmp_path / "known_hosts"
    for number, (host, port) in enumerate([("a.example", 22), ("::1", 2222), ("b\u00fc", 22)], 1):
        record(file, host, port, A, hashed=hashed)
        assert keygen_find(make_lookup_name(host, port), file) == [(number, "", fingerprint(A))]


# Policies


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [
        ("accept-unknown", Outcome.UNKNOWN_ACCEPTED),
        ("accept-new", Outcome.UNKNOWN_RECORD),
        ("strict", Outcome.UNKNOWN_REFUSED),
        ("ignore", Outcome.UNCHECKED),
    ],
)
def test_unknown_host(policy: str, outcome: Outcome) -> None:
    """What happens to a host without an entry is what the policy says."""
    verdict = check(line("other", A), "a", A, policy=policy)
    assert verdict.outcome is outcome
    assert verdict.refused is (policy == "strict")
    assert verdict.must_record is (policy == "accept-new")


@pytest.mark.parametrize("policy", ["accept-unknown", "accept-new", "strict"])
@pytest.mark.parametrize(
    ("data", "blob", "outcome"),
    [
        (line("a", A), A, Outcome.ACCEPTED),
        (line("a", B) + line("*", A), A, Outcome.ACCEPTED),
        (line("a", B), A, Outcome.CHANGED),
        (line("a", A), R, Outcome.CHANGED),
        (line("a", A) + line("a", A, "@revoked"), A, Outcome.REVOKED),
        (line("*", A, "@revoked"), A, Outcome.REVOKED),
        (line("a", B, "@revoked") + line("a", A), A, Outcome.ACCEPTED),
        (line("a", A, "@revoked") + line("a", B), R, Outcome.CHANGED),
    ],
)
def test_known_host(policy: str, data: bytes, blob: bytes, outcome: Outcome) -> None:
    """A recorded, a changed and a revoked key are judged alike under every policy that checks."""
    verdict = check(data, "a", blob, policy=policy)
    assert verdict.outcome is outcome
    assert verdict.refused is (outcome is not Outcome.ACCEPTED)


def test_ignore_checks_nothing() -> None:
    """Under "ignore" even a revoked key passes."""
    assert check(line("a", A, "@revoked"), "a", A, policy="ignore").outcome is Outcome.UNCHECKED


def test_unknown_policy() -> None:
    """A misspelt policy is an error and never a weaker check."""
    with pytest.raises(ValueError, match="accept-unknown, accept-new, strict, ignore"):
        check(b"", "a", A, policy="Strict")


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (line("a", A), Outcome.ACCEPTED),
        (line("a", B), Outcome.UNKNOWN_REFUSED),
        (line("[a]:2222", B) + line("a", A), Outcome.CHANGED),
        (line("[a]:2222", A) + line("a", B), Outcome.ACCEPTED),
        (line("[a]:2222", A) + line("a", A, "@revoked"), Outcome.REVOKED),
        (line("[a]:2200", A), Outcome.UNKNOWN_REFUSED),
    ],
)
def test_bare_name_off_port_22(data: bytes, outcome: Outcome) -> None:
    """An equal key under the bare name vouches for another port, a different one says nothing."""
    assert check(data, "a", A, port=2222).outcome is outcome


def test_entries_for_a_port_do_not_reach_port_22() -> None:
    """What is recorded for another port says nothing about port 22."""
    assert check(line("[a]:2222", A), "a", A).outcome is Outcome.UNKNOWN_REFUSED


def test_authority_is_no_plain_key() -> None:
    """A @cert-authority line neither vouches for the plain key in it nor makes others changed."""
    data = line("a", A, "@cert-authority")
    for blob in (A, B):
        verdict = check(data, "a", blob)
        assert (verdict.outcome, verdict.only_authorities) == (Outcome.UNKNOWN_REFUSED, True)
    assert "vouch for certificates only" in str(make_host_key_error(check(data, "a", A)))
    assert KnownHosts.parse(data).list_key_types("a") == []


def test_malformed_certificates_are_refused_clearly() -> None:
    """What is no whole certificate is refused, recorded or not, where unknown keys are accepted."""
    blob = string(b"ssh-ed25519-cert-v01@openssh.com") + string(b"nonce")
    for data in (line("a", A, "@cert-authority"), line("a", blob)):
        verdict = check(data, "a", blob, policy="accept-unknown")
        assert verdict.outcome is Outcome.MALFORMED
        assert "certificate" in str(make_host_key_error(verdict))


def test_revoked_keys_are_known_in_any_encoding() -> None:
    """Leading zeros, point compression and trailing bytes do not hide a revoked key."""
    modulus = R.split(mpint(65537))[1][4:]
    padded = string(b"ssh-rsa") + string(b"\0\0\1\0\1") + string(b"\0" + modulus)
    assert P256_POINT[-1] % 2 == 1
    compressed = ecdsa(b"\3" + P256_POINT[1:33])
    hybrid = ecdsa(b"\7" + P256_POINT[1:])
    data = line("a", R, "@revoked") + line("a", E, "@revoked") + line("a", A, "@revoked")
    for blob in (R, padded, E, compressed, hybrid, A, A + b"x"):
        assert check(data, "a", blob, policy="accept-unknown").outcome is Outcome.REVOKED
    other = ecdsa(b"\2" + P256_POINT[1:33])
    for blob in (other, B, rsa(7)):
        assert not check(data, "a", blob, policy="accept-unknown").refused


def test_known_keys_must_be_equal_byte_for_byte() -> None:
    """Only the very bytes that were recorded are a known key."""
    assert check(line("a", A), "a", A + b"x").outcome is Outcome.CHANGED


# Algorithms

OFFERED = ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256"]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([], OFFERED),
        (["ssh-dss"], OFFERED),
        (["ssh-rsa"], [*OFFERED[2:], *OFFERED[:2]]),
        (["ecdsa-sha2-nistp256"], [OFFERED[1], OFFERED[0], *OFFERED[2:]]),
        (["ssh-rsa", "ssh-ed25519"], [OFFERED[0], *OFFERED[2:], OFFERED[1]]),
    ],
)
def test_algorithms_for(known: list[str], expected: list[str]) -> None:
    """Recorded types come first, in the order of the offer; nothing is added or lost."""
    assert order_algorithms(known, OFFERED) == expected


@pytest.mark.parametrize(
    ("data", "port", "expected"),
    [
        (line("a", R) + line("*", A) + line("a", R), 22, ["ssh-rsa", "ssh-ed25519"]),
        (make_known_hosts_line("a", 22, E, hashed=True), 22, ["ecdsa-sha2-nistp256"]),
        (line("[a]:2222", R) + line("a", A), 2222, ["ssh-rsa"]),
        (line("a", A), 2222, ["ssh-ed25519"]),
        (line("a", A, "@revoked"), 22, []),
        (line("b", A), 22, []),
    ],
)
def test_key_types(data: bytes, port: int, expected: list[str]) -> None:
    """The types on record are those of plain entries, found as a check finds them."""
    assert KnownHosts.parse(data).list_key_types("a", port) == expected


# Errors


def test_error_for_a_changed_key() -> None:
    """The error gives both fingerprints, the lines, and a command that is safe to paste."""
    data = b"\n" + line("[a]:2222", B) + line("[a]:2222", R)
    verdict = KnownHosts.parse(data, "/home/o'k/known hosts").check("a", 2222, A)
    error = make_host_key_error(verdict)
    assert (error.reason, error.host, error.phase) == ("changed", "[a]:2222", "hostkey")
    assert (error.fingerprint, error.recorded) == (
        fingerprint(A),
        (fingerprint(B), fingerprint(R)),
    )
    text = str(error)
    assert "/home/o'k/known hosts:2" in text
    assert "/home/o'k/known hosts:3" in text
    assert text.count("ssh-keygen -R '[a]:2222' -f '/home/o'\"'\"'k/known hosts'") == 1


def test_error_for_a_revoked_and_an_unknown_key() -> None:
    """The reason tells a revoked key from an unknown one."""
    revoked = make_host_key_error(check(line("a", A, "@revoked"), "a", A))
    unknown = make_host_key_error(check(b"", "a", A))
    assert (revoked.reason, unknown.reason) == ("revoked", "unknown")
    assert "file:1" in str(revoked)
    assert 'host_key_policy="accept-new"' in str(unknown)
    assert fingerprint(A) in str(unknown)
