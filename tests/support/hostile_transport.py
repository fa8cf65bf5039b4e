"""The transport layer of the hostile server: versions, packets, key exchange.

`hostile_auth` and `hostile_channels` build on it; tests get it as part of `Conn`.
It plays by the rules unless told otherwise (`Tamper`, the arguments of
`send_packet` and `send_body`, `send_raw`), and it does not forgive the client: what
breaks the protocol is a `PeerError`.  It blocks in one thread, every socket
operation has a deadline, and it never logs.
"""

from __future__ import annotations

import hashlib
import socket
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from . import hostile_wire as wire
from .hostile_crypto import (
    CIPHERS,
    MACS,
    HostKey,
    PacketCipher,
    Plain,
    Secrets,
    host_key,
    is_aead,
)
from .hostile_wire import ClientGone, Fields, Msg, PeerError, mpint, string

HYBRID = "mlkem768x25519-sha256"
#: X25519 points with which every secret is zero (RFC 7748 section 6.1), little endian.
SMALL_ORDER = tuple(
    value.to_bytes(32, "little")
    for value in (
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        2**255 - 20,
        2**255 - 19,
        2**255 - 18,
    )
)
STRICT_SERVER = "kex-strict-s-v00@openssh.com"
STRICT_CLIENT = "kex-strict-c-v00@openssh.com"


@dataclass
class Options:
    """What a server offers, and its patience (seconds)."""

    version: bytes = b"SSH-2.0-Hostile_1.0"
    kex: Sequence[str] = ("curve25519-sha256", "curve25519-sha256@libssh.org")
    host_keys: Sequence[HostKey] = field(default_factory=lambda: (host_key(),))
    ciphers: Sequence[str] = CIPHERS
    macs: Sequence[str] = MACS
    compression: Sequence[str] = ("none",)  # or "zlib", which begins with the first keys
    strict: bool = True
    ext_info: bool | bytes = True  # bytes: this payload instead of the good one
    sig_algs: Sequence[str] = (
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "rsa-sha2-512",
        "rsa-sha2-256",
    )
    window: int = 2 << 20  # what the client may send per channel
    max_packet: int = 32768
    timeout: float = 10.0  # for one socket operation
    lifetime: float = 30.0  # for one connection


Edit = Callable[[bytes], bytes]
Hook = Callable[[Any], object]  # gets the Conn


@dataclass
class Tamper:
    """What one key exchange does wrong; None means nothing.

    `edit_*` get the good message and return the one to send.  Overridden values
    enter the exchange hash, so that the client's own check is the only one to fail.
    """

    edit_kexinit: Edit | None = None
    edit_reply: Edit | None = None
    edit_signature: Edit | None = None
    host_key_blob: bytes | None = None
    server_public: bytes | None = None
    edit_public: Edit | None = None
    after_kexinit: Hook | None = None
    before_reply: Hook | None = None
    before_newkeys: Hook | None = None
    after_newkeys: Hook | None = None


class Transport:
    """One accepted connection, seen from the server.

    Attributes:
        received: message numbers in order of arrival, for asserting.
        kex_count: completed key exchanges.
        disconnect: reason and text of the client's DISCONNECT, if it sent one.
        negotiated: kex, hostkey, cipher_in, cipher_out, mac_in, mac_out by name.
    """

    def __init__(self, sock: socket.socket, options: Options) -> None:
        self.sock = sock
        self.options = options
        self.client_version = b""
        self.client_kexinit: list[list[str]] = []
        self.negotiated: dict[str, str] = {}
        self.session_id: bytes | None = None
        self.strict = False
        self.kex_count = 0
        self.received: list[int] = []
        self.disconnect: tuple[int, str] | None = None
        self.seq_in = self.seq_out = 0
        self._cipher_in: PacketCipher = Plain()
        self._cipher_out: PacketCipher = Plain()
        self._queued: deque[bytes] = deque()
        self._held: bytearray | None = None  # what `in_one_write` collects
        self._deflate: Any = None
        self._inflate: Any = None
        is_tcp = sock.family == socket.AF_INET
        self._quick_ack = getattr(socket, "TCP_QUICKACK", None) if is_tcp else None
        self._ends = time.monotonic() + options.lifetime

    # The socket

    def _patience(self) -> float:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"connection lived longer than {self.options.lifetime} s")
        return min(left, self.options.timeout)

    def send_raw(self, data: bytes) -> None:
        """Bytes on the wire, below every layer."""
        if self._held is not None:
            self._held += data
            return
        self.sock.settimeout(self._patience())
        self.sock.sendall(data)

    @contextmanager
    def in_one_write(self) -> Iterator[None]:
        """What is sent meanwhile leaves at once, so that a client reads it together."""
        held = self._held = bytearray()
        try:
            yield
        finally:
            self._held = None
            self.send_raw(bytes(held))

    def recv_raw(self, count: int) -> bytes:
        """Exactly `count` bytes; `ClientGone` at the end of the stream."""
        data = bytearray()
        while len(data) < count:
            self.sock.settimeout(self._patience())
            chunk = self.sock.recv(count - len(data))
            if not chunk:
                raise ClientGone(f"end of stream, {count - len(data)} of {count} bytes missing")
            data += chunk
        if self._quick_ack is not None:
            # OpenSSH sends pairs of small packets without TCP_NODELAY before its session
            # begins; each pair would cost a delayed acknowledgement.  Linux forgets the option.
            self.sock.setsockopt(socket.IPPROTO_TCP, self._quick_ack, 1)
        return bytes(data)

    def wait_closed(self) -> None:
        """Stall: swallow what comes, answer nothing, until the client hangs up."""
        while True:
            self.sock.settimeout(self._patience())
            try:
                if not self.sock.recv(65536):
                    return
            except ConnectionError:
                return

    # Versions

    def send_version(self, line: bytes | None = None) -> None:
        self.send_raw((self.options.version if line is None else line) + b"\r\n")

    def read_version(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            if len(line) > 255:
                raise PeerError("client version line is longer than 255 bytes")
            line += self.recv_raw(1)
        if not line.startswith(b"SSH-2.0-") or not line.endswith(b"\r\n"):
            raise PeerError(f"bad client version line: {line!r}")
        self.client_version = line[:-2]
        return self.client_version

    def version_exchange(self, *, lines: Sequence[bytes] = ()) -> None:
        """RFC 4253 section 4.2; `lines` go out before the version."""
        for line in lines:
            self.send_raw(line + b"\r\n")
        self.send_version()
        self.read_version()

    # Packets out

    def send_body(
        self,
        body: bytes,
        *,
        packet_length: int | None = None,
        corrupt_mac: bool = False,
        tag: bytes | None = None,
    ) -> None:
        """Seals and sends a body (padding length, payload, padding) of any size.

        The tag is valid for what goes out, unless corrupted or replaced.
        """
        self.send_raw(self.seal_body(body, packet_length, corrupt_mac=corrupt_mac, tag=tag))

    def seal_body(
        self,
        body: bytes,
        packet_length: int | None = None,
        *,
        corrupt_mac: bool = False,
        tag: bytes | None = None,
    ) -> bytes:
        """What `send_body` would send; uses up a sequence number."""
        length = len(body) if packet_length is None else packet_length
        packet, good = self._cipher_out.seal(self.seq_out, length & 0xFFFFFFFF, body)
        self.seq_out = (self.seq_out + 1) & 0xFFFFFFFF
        if corrupt_mac:
            good = bytes([good[0] ^ 1]) + good[1:]
        return packet + (good if tag is None else tag)

    def make_body(
        self, payload: bytes, *, padding: bytes | None = None, padding_length: int | None = None
    ) -> bytes:
        """A body with proper padding, or the given one, or a padding length that lies."""
        if padding is None:
            cipher = self._cipher_out
            size = (4 if cipher.length_in_blocks else 0) + 1 + len(payload)
            count = -size % cipher.block
            padding = bytes(count if count >= 4 else count + cipher.block)
        shown = len(padding) if padding_length is None else padding_length
        return bytes([shown & 0xFF]) + payload + padding

    def send_packet(
        self,
        payload: bytes,
        *,
        padding: bytes | None = None,
        padding_length: int | None = None,
        packet_length: int | None = None,
        corrupt_mac: bool = False,
    ) -> None:
        """Sends one message; the keywords each break one thing and leave the rest right."""
        if self._deflate is not None:
            payload = self._deflate.compress(payload) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        body = self.make_body(payload, padding=padding, padding_length=padding_length)
        self.send_body(body, packet_length=packet_length, corrupt_mac=corrupt_mac)

    def send(self, number: int, *fields: bytes) -> None:
        self.send_packet(wire.message(number, *fields))

    def send_disconnect(self, reason: int = 11, text: bytes | str = "bye") -> None:
        self.send_packet(wire.disconnect(reason, text))

    def flood(self, payload: bytes, count: int | None = None) -> int:
        """Sends the message `count` times, or until the client hangs up; returns how often."""
        sent = 0
        try:
            while count is None or sent < count:
                self.send_packet(payload)
                sent += 1
        except ConnectionError:
            if count is not None:
                raise
        return sent

    # Packets in

    def read_any(self) -> bytes:
        """The next message as it is; only DISCONNECT is acted upon (`ClientGone`)."""
        body = self._cipher_in.open(self.seq_in, self.recv_raw)
        self.seq_in = (self.seq_in + 1) & 0xFFFFFFFF
        if not 4 <= body[0] <= len(body) - 2:
            raise PeerError(f"client packet of {len(body)} bytes has padding length {body[0]}")
        payload = body[1 : len(body) - body[0]]
        if self._inflate is not None:
            payload = self._inflate.decompress(payload)
        self.received.append(payload[0])
        if payload[0] == Msg.DISCONNECT:
            fields = Fields(payload[1:])
            self.disconnect = (fields.u32(), fields.text())
            raise ClientGone(f"client disconnected: {self.disconnect}")
        return payload

    def read_packet(self) -> bytes:
        """The next message of interest; answers the client's rekeys, skips chatter."""
        while True:
            payload = self._queued.popleft() if self._queued else self.read_any()
            if payload[0] == Msg.KEXINIT:
                self.key_exchange(client_kexinit=payload)
            elif payload[0] not in (Msg.IGNORE, Msg.DEBUG, Msg.UNIMPLEMENTED, Msg.EXT_INFO):
                return payload

    def expect(self, number: int) -> Fields:
        """The fields of the next message, which must have this number."""
        payload = self.read_packet()
        if payload[0] != number:
            raise PeerError(f"expected message {number} from the client, not {payload[0]}")
        return Fields(payload[1:])

    # Key exchange

    def make_kexinit(self) -> bytes:
        options = self.options
        first = self.session_id is None
        kex = [*options.kex, *([STRICT_SERVER] if options.strict and first else [])]
        keys = [name for key in options.host_keys for name in key.algorithms]
        ciphers, macs = options.ciphers, options.macs
        compression = options.compression
        return wire.kexinit(
            [kex, keys, ciphers, ciphers, macs, macs, compression, compression, [], []]
        )

    def handshake(self, tamper: Tamper | None = None) -> None:
        """Versions and the first key exchange."""
        self.version_exchange()
        self.key_exchange(tamper)

    def rekey(self, tamper: Tamper | None = None) -> None:
        """A key exchange begun by the server; what crosses it is kept for `read_packet`."""
        self.key_exchange(tamper)

    def key_exchange(
        self, tamper: Tamper | None = None, *, client_kexinit: bytes | None = None
    ) -> None:
        """Runs a whole key exchange (RFC 4253 section 7, RFC 8731), tampered with or not."""
        do = tamper or Tamper()
        edited = do.edit_kexinit or _same
        kexinit = edited(self.make_kexinit())
        self.send_packet(kexinit)
        _run(do.after_kexinit, self)
        theirs = client_kexinit or self._await_kexinit()
        follows = self._negotiate(theirs)
        if follows:
            self.read_any()
        fields = Fields(self._next_in_kex(Msg.KEX_ECDH_INIT)[1:])
        client_public = fields.string()

        private = X25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        kem_secret, their_point = b"", client_public
        if self.negotiated["kex"] == HYBRID:
            if len(client_public) != 1184 + 32:
                raise PeerError(f"client sent public keys of {len(client_public)} bytes")
            kem_key, their_point = client_public[:1184], client_public[1184:]
            kem_secret, ciphertext = MLKEM768PublicKey.from_public_bytes(kem_key).encapsulate()
            public = ciphertext + public
        if do.server_public is not None:
            public = do.server_public
        if do.edit_public is not None:
            public = do.edit_public(public)
        if public[-32:] in SMALL_ORDER:
            secret = bytes(32)  # what a client without that check computes
        else:
            secret = private.exchange(X25519PublicKey.from_public_bytes(their_point))
        if kem_secret:
            shared = string(hashlib.sha256(kem_secret + secret).digest())
        else:
            shared = mpint(int.from_bytes(secret, "big"))
        algorithm = self.negotiated["hostkey"]
        key = next(one for one in self.options.host_keys if algorithm in one.algorithms)
        blob = key.blob if do.host_key_blob is None else do.host_key_blob
        texts = (self.client_version, self.options.version, theirs, kexinit)
        hashed = b"".join(string(one) for one in (*texts, blob, client_public, public))
        digest = hashlib.sha256(hashed + shared).digest()
        signature = (do.edit_signature or _same)(key.sign(algorithm, digest))
        reply = wire.message(Msg.KEX_ECDH_REPLY, string(blob), string(public), string(signature))
        _run(do.before_reply, self)
        self.send_packet((do.edit_reply or _same)(reply))
        _run(do.before_newkeys, self)

        first = self.session_id is None
        session_id = self.session_id or digest
        secrets = Secrets(shared, digest, session_id)
        with self.in_one_write():  # as OpenSSH does
            self.send(Msg.NEWKEYS)
            names = self.negotiated
            self._cipher_out = secrets.cipher(names["cipher_out"], names["mac_out"], to_client=True)
            is_compressed = names["compression"] == "zlib"
            self._deflate = zlib.compressobj(9) if is_compressed else None
            if self.strict:
                self.seq_out = 0
            if first and self.options.ext_info and "ext-info-c" in self.client_kexinit[0]:
                self.send_ext_info()
        _run(do.after_newkeys, self)
        self._next_in_kex(Msg.NEWKEYS)
        self._cipher_in = secrets.cipher(names["cipher_in"], names["mac_in"], to_client=False)
        self._inflate = zlib.decompressobj() if is_compressed else None
        if self.strict:
            self.seq_in = 0
        self.session_id = session_id
        self.kex_count += 1

    def send_ext_info(self) -> None:
        given = self.options.ext_info
        good = wire.ext_info({"server-sig-algs": ",".join(self.options.sig_algs)})
        self.send_packet(given if isinstance(given, bytes) else good)

    def _await_kexinit(self) -> bytes:
        # Before its KEXINIT a client may send anything in a rekey, nothing at first.
        while True:
            payload = self.read_any()
            if payload[0] == Msg.KEXINIT:
                return payload
            if self.session_id is None:
                raise PeerError(f"client began with message {payload[0]}, not KEXINIT")
            self._queued.append(payload)

    def _next_in_kex(self, number: int) -> bytes:
        while True:
            payload = self.read_any()
            if payload[0] == number:
                return payload
            chatter = payload[0] in (Msg.IGNORE, Msg.DEBUG, Msg.UNIMPLEMENTED)
            if not chatter or (self.strict and self.session_id is None):
                raise PeerError(f"client sent message {payload[0]} within a key exchange")

    def _negotiate(self, theirs: bytes) -> bool:
        """Picks the algorithms; True if the client's guessed packet must be dropped."""
        fields = Fields(theirs[17:])
        lists = [fields.names() for _ in range(10)]
        guessed = fields.boolean()
        options = self.options
        if self.session_id is None:
            self.strict = options.strict and STRICT_CLIENT in lists[0]
        self.client_kexinit = lists
        keys = [name for key in options.host_keys for name in key.algorithms]
        pick = {
            "kex": self._pick(lists[0], options.kex),
            "hostkey": self._pick(lists[1], keys),
            "compression": self._pick(lists[6], options.compression),
        }
        for at, way in enumerate(("in", "out")):
            cipher = self._pick(lists[2 + at], options.ciphers)
            mac = "" if is_aead(cipher) else self._pick(lists[4 + at], options.macs)
            pick[f"cipher_{way}"], pick[f"mac_{way}"] = cipher, mac
        self.negotiated = pick
        right = lists[0][:1] == [options.kex[0]] and lists[1][:1] == keys[:1]
        return guessed and not right

    def _pick(self, client: Sequence[str], server: Sequence[str]) -> str:
        for name in client:
            if name in server:
                return name
        # Not the client's fault: a test may offer just what a client must not accept.
        text = f"nothing in common: client {','.join(client)}; server {','.join(server)}"
        self.send_disconnect(3, text)
        raise ClientGone(text)

    def close(self) -> None:
        self.sock.close()


def _same(data: bytes) -> bytes:
    return data


def _run(hook: Hook | None, conn: Transport) -> None:
    if hook is not None:
        hook(conn)
