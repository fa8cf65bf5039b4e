"""The parsers of what others have written, each with what must hold and with right inputs.

For tests/unit/test_parser_fuzz.py, which gives them what Hypothesis makes of these inputs, and for
scripts/fuzz-python, where atheris looks at the coverage.  A target takes any bytes: it returns, or
fails an assertion, or lets an error out that its callers do not expect.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

from hussh._policy.hostkeys.configured_keys import parse_revoked
from hussh._policy.hostkeys.host_certificate import read_certificate
from hussh._policy.hostkeys.known_hosts import KnownHosts
from hussh._policy.keys.certificates import load_certificate
from hussh._policy.keys.key_files import parse_private_key, parse_public_key
from hussh._policy.keys.verify import is_signed_by
from hussh._policy.ssh_config.answer import CONTROL_PATH, Question, parse_answer
from hussh._policy.wire import mpint, string, uint32
from hussh._protocol import agent, scp
from hussh._protocol.core import RunBlocking
from hussh._protocol.process import Exit
from hussh._protocol.sftp import wire
from hussh._protocol.sftp.machine import LONGEST, STAGE, Machine
from hussh._protocol.sftp.wire import Malformed
from hussh._protocol.socks import LONGEST as SOCKS_LONGEST
from hussh._protocol.socks import SocksRequest
from hussh.errors import AuthenticationError, ConfigError, KeyFileError, ProtocolError, SFTPError

__all__ = ["TARGETS", "Target"]

ED25519 = string(b"ssh-ed25519") + string(bytes(range(32)))
RSA = string(b"ssh-rsa") + mpint(65537) + mpint((1 << 1023) + 1)
SIGNATURE = string(b"ssh-ed25519") + string(bytes(64))
#: A user certificate and a host certificate differ in one number.
CERTIFICATE = (
    string(b"ssh-ed25519-cert-v01@openssh.com") + string(bytes(32)) + string(bytes(range(32)))
    + bytes(8) + uint32(2) + string(b"id") + string(string(b"host.example"))
    + bytes(8) + b"\xff" * 8 + string(b"") + string(b"") + string(b"") + string(ED25519)
    + string(SIGNATURE)
)  # fmt: skip


class Target(NamedTuple):
    """A parser with its oracle, and right inputs, of which others are made."""

    run: Callable[[bytes], None]
    inputs: tuple[bytes, ...]


def _frame(kind: int, body: bytes) -> bytes:
    return string(bytes((kind,)) + body)


def sftp(data: bytes) -> None:
    """A session's answers in pieces; the first byte is the length of a piece."""
    machine = Machine()
    name = string(b"x")
    requests = [machine.request(wire.OPEN, name + uint32(wire.FXF_READ) + uint32(0))]
    requests += [machine.request(kind, name) for kind in (wire.STAT, wire.READDIR)]
    requests.append(machine.read(b"h", 0, 1000))
    size = 1 + data[0] if data else 1
    try:
        for at in range(1, len(data), size):
            view = machine.get_buffer()
            piece = data[at : at + min(size, len(view))]
            view[: len(piece)] = piece
            machine.take_received(len(piece))
        machine.note_end()
    except Malformed:
        pass
    assert machine._direct is None or len(machine._direct) <= LONGEST
    assert len(machine._stage) == STAGE
    assert all(request.value is None or request.done for request in requests)
    for parse in (wire.parse_status, wire.parse_attributes, wire.name_list, wire.parse_version,
                  wire.parse_statvfs,
                  wire.parse_limits):  # fmt: skip
        try:
            parse(data)
        except Malformed:
            continue


def known_hosts(data: bytes) -> None:
    """A file of known hosts, asked about three names; adding a line is as reading both at once."""
    known = KnownHosts.parse(data, "file")
    for host, port in (("host.example", 22), ("::1", 2222), ("a*", 22)):
        known.lookup(host, port)
        verdict = known.check(host, port, ED25519, "strict")
        assert isinstance(verdict.outcome.name, str)
        known.list_key_types(host, port)
    files, line = (("file", data),), b"host.example " + base64.b64encode(ED25519) + b"\n"
    grown = known.grow(files, (("file", data + line),))
    if grown is not None:
        whole = KnownHosts.parse(data + line, "file")
        assert grown.lookup("host.example") == whole.lookup("host.example")
    with contextlib.suppress(ConfigError):
        parse_revoked(data, "file")


def key_files(data: bytes) -> None:
    """A private or public key file, with and without a passphrase."""
    for passphrase in (None, "secret"):
        try:
            key = parse_private_key(data, passphrase, "file")
        except KeyFileError:
            continue
        assert key.public.blob
        assert "secret" not in repr(key)
    public = parse_public_key(data)
    assert public is None or public.algorithm


def certificates(data: bytes) -> None:
    """A certificate's blob, as a host's and as text of a user's; and a signature of anything."""
    certificate = read_certificate(data)
    if certificate is not None:
        assert certificate.signed + string(certificate.signature) == data
    assert not is_signed_by(ED25519, b"data", data)
    assert not is_signed_by(data, b"data", SIGNATURE)
    line = b"ssh-ed25519-cert-v01@openssh.com " + base64.b64encode(data)
    with contextlib.suppress(KeyFileError):
        assert load_certificate(line).blob == data


def agent_answers(data: bytes) -> None:
    """An answer of an agent, as each of those that are asked for."""
    for parse in (agent.parse_identities, agent.parse_signature, agent.frame_length):
        try:
            parse(data)
        except AuthenticationError:
            continue
    agent.is_bound(data)
    try:
        kept = agent.filter_identities(agent.parse_identities(data))
    except AuthenticationError:
        return
    assert len({key.blob for key in kept}) == len(kept)


def ssh_config(data: bytes) -> None:
    """What ``ssh -G`` printed, and every way of asking about a keyword of it."""
    try:
        answer = parse_answer(Question("host"), data.decode("utf-8", "surrogateescape"))
    except ConfigError:
        return
    for keyword in ("hostname", "proxyjump", "identityfile", "userknownhostsfile", "sendenv"):
        answer.get_many(keyword)
        answer.split_names(keyword)
        answer.get_one(keyword)
        assert not (answer.is_yes(keyword) and answer.is_no(keyword))
        for path in answer.split_paths(keyword):
            answer.expand_tilde(path)
            try:
                answer.expand(path, keyword, {"HOME": "/home/user"})
            except ConfigError:
                continue


def socks(data: bytes) -> None:
    """A client's request, whole and byte by byte, which gives the same."""
    whole, pieces = SocksRequest(), SocksRequest()
    first = whole.feed(data)
    answers = b"".join(pieces.feed(data[at : at + 1]) for at in range(len(data)))
    if len(data) <= SOCKS_LONGEST:
        assert (whole.target, whole.is_over, first) == (pieces.target, pieces.is_over, answers)
    assert whole.target is None or (whole.is_over and data.endswith(whole.rest))
    whole.make_granted()
    whole.make_failed(2)


def _scp_parts(data: bytes) -> Iterator[bytes]:
    size = 1 + data[0] % 40 if data else 1
    for at in range(1, len(data), size):
        yield data[at : at + size]


def scp_download(data: bytes) -> None:
    """What a server's scp sends: no more than it promised is stored, or a typed error."""
    parts, got = _scp_parts(data), bytearray()

    def reading(_channel: object, stream: int, _most: int) -> Any:
        return next(parts, b"") if stream == 0 else b""
        yield

    def nothing(*_args: object) -> Any:
        return mock.Mock()
        yield

    def ended(_channel: object) -> Any:
        return Exit(1, "", False) if len(Exit._fields) == 3 else mock.Mock(status=1)
        yield

    with mock.patch.multiple(scp, start=nothing, read=reading, write=nothing, wait=ended):
        operation = scp.receive(mock.Mock(), "/file", got.extend)
        answer: object = None
        try:
            while True:
                wanted = operation.send(answer)
                assert isinstance(wanted, RunBlocking)
                answer = wanted.call(None)
        except StopIteration as stop:
            size = stop.value
        except (SFTPError, ProtocolError):
            size = None
    assert size in (None, len(got))
    assert len(got) <= len(data)


_PEM = b"-----BEGIN OPENSSH PRIVATE KEY-----\n%b\n-----END OPENSSH PRIVATE KEY-----\n"
_CHECK = uint32(7) * 2
_PRIVATE = _CHECK + ED25519 + string(bytes(range(64))) + string(b"comment") + b"\1\2\3\4\5"
_OPENSSH = (
    b"openssh-key-v1\0" + string(b"none") + string(b"none") + string(b"") + uint32(1)
    + string(ED25519) + string(_PRIVATE)
)  # fmt: skip
_LOCKED = (
    b"openssh-key-v1\0" + string(b"aes256-ctr") + string(b"bcrypt")
    + string(string(bytes(16)) + uint32(1)) + uint32(1) + string(ED25519) + string(bytes(160))
)  # fmt: skip
_LINE = b"ssh-ed25519 " + base64.b64encode(ED25519)
_CONFIG = "\n".join(
    ["hostname host.example", "port 22", "user me", "identityfile ~/.ssh/id_a /b c",
     "userknownhostsfile ~/.ssh/known_hosts %d/x", "proxyjump a,b", f"controlpath {CONTROL_PATH}"]
)  # fmt: skip

TARGETS = {
    "sftp": Target(sftp, (
        b"\x10" + _frame(wire.VERSION, uint32(3) + string(b"limits@openssh.com") + string(b"1")),
        b"\x05" + _frame(wire.VERSION, uint32(3)) + _frame(wire.HANDLE, uint32(0) + string(b"h"))
        + _frame(wire.STATUS, uint32(1) + uint32(2) + string(b"no") + string(b"")),
        b"\xff" + _frame(wire.VERSION, uint32(3)) + _frame(wire.DATA, uint32(3) + string(b"x" * 99))
        + _frame(wire.NAME, uint32(2) + uint32(1) + string(b"a") + string(b"-rw") + uint32(0)),
    )),
    "known_hosts": Target(known_hosts, (
        b"host.example " + _LINE + b"\n",
        b"# c\n@cert-authority *.example,!a?b " + _LINE + b" me\n@revoked * " + _LINE + b"\n",
        b"|1|AAAAAAAAAAAAAAAAAAAAAAAAAAA=|AAAAAAAAAAAAAAAAAAAAAAAAAAA= " + _LINE + b"\n[::1]:2 x",
        "host.example ssh-ed25519 AAAA\r\n".encode("utf-16"),
        b"SSHKRL\n\0" + uint32(1) + bytes(24) + string(b"") * 2 + b"\2" + string(string(ED25519)),
    )),
    "key_files": Target(key_files, (
        _PEM % base64.encodebytes(_OPENSSH), _PEM % base64.encodebytes(_LOCKED), _LINE + b" me\n",
        b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,"
        + b"0" * 32 + b"\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        b"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n",
        b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAB\n-----END PRIVATE KEY-----\n",
    )),
    "certificates": Target(certificates, (CERTIFICATE, ED25519, RSA)),
    "agent": Target(agent_answers, (
        _frame(12, uint32(2) + string(ED25519) + string(b"a") + string(RSA) + string(b"b")),
        _frame(14, string(SIGNATURE)), _frame(5, b""),
    )),
    "ssh_config": Target(ssh_config, (
        _CONFIG.encode(), _CONFIG.replace("~/.ssh/known", "~\0known").encode(),
    )),
    "socks": Target(socks, (
        b"\5\1\0\5\1\0\1\x7f\0\0\1\0\x16rest", b"\5\2\2\0\5\1\0\3\4host\0\x50",
        b"\4\1\0\x50\0\0\0\1me\0host.example\0", b"\5\1\0\5\1\0\4" + bytes(16) + b"\0\x16",
    )),
    "scp": Target(scp_download, (
        b"\x08C0644 5 name\nhello\0", b"\x01\1scp: no such file\n", b"\x20C0644 0 n\n\0",
    )),
}  # fmt: skip
