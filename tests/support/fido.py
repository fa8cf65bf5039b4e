"""An ssh-agent that holds FIDO keys without any hardware: it computes what a token would.

For ``tests/conftest.py`` and tests. The keys are software, but what is signed and how the signature
looks is what OpenSSH's PROTOCOL.u2f says, so that a real sshd takes them. A key may insist on a
touch, which is then for the test to give.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from hussh._policy.wire import Reader, mpint, string, uint32

APPLICATION = b"ssh:"
PRESENCE, VERIFIED = 1, 4  # flags of a token: it was touched, a PIN was given
_FAILURE, _LIST, _LISTED, _SIGN, _SIGNED = 5, 11, 12, 13, 14
_RAW = serialization.Encoding.Raw, serialization.PublicFormat.Raw
_POINT = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint


class FidoKey:
    """One key on a token that does not exist; ``kind`` is ``ed25519`` or ``ecdsa``."""

    def __init__(self, kind: str, *, comment: str = "token", flags: int = PRESENCE) -> None:
        """Make a key; ``flags`` are what the token vouches for in each signature."""
        self.comment = comment
        self.flags = flags
        self.counter = 0
        self._ed25519 = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else None
        self._ecdsa = ec.generate_private_key(ec.SECP256R1())
        if self._ed25519 is not None:
            self.algorithm = "sk-ssh-ed25519@openssh.com"
            public = string(self._ed25519.public_key().public_bytes(*_RAW))
        else:
            self.algorithm = "sk-ecdsa-sha2-nistp256@openssh.com"
            point = self._ecdsa.public_key().public_bytes(*_POINT)
            public = string(b"nistp256") + string(point)
        self.blob = string(self.algorithm.encode()) + public + string(APPLICATION)
        #: What the agent lists besides: certificates of this key.
        self.certificates: list[bytes] = []

    @property
    def public_line(self) -> str:
        """The line of a public key file."""
        return f"{self.algorithm} {b64encode(self.blob).decode()} {self.comment}"

    @property
    def fingerprint(self) -> str:
        """The fingerprint as OpenSSH prints it."""
        return "SHA256:" + b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    def sign(self, data: bytes) -> bytes:
        """Return a signature blob (PROTOCOL.u2f, "SSH U2F Signatures")."""
        self.counter += 1
        state = bytes((self.flags,)) + uint32(self.counter)
        signed = hashlib.sha256(APPLICATION).digest() + state + hashlib.sha256(data).digest()
        if self._ed25519 is not None:
            raw = self._ed25519.sign(signed)
        else:
            numbers = decode_dss_signature(self._ecdsa.sign(signed, ec.ECDSA(hashes.SHA256())))
            raw = b"".join(mpint(number) for number in numbers)
        return string(self.algorithm.encode()) + string(raw) + state


@dataclass
class FidoAgent:
    """The agent; started by entering it.

    While ``touch`` is not set, requests to sign wait. ``asked`` is released once for each such
    request, ``dropped`` once for each that was given up before there was a touch.
    """

    directory: Path
    keys: list[FidoKey]
    touch: threading.Event = field(default_factory=threading.Event)
    asked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    dropped: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        """Listen nowhere yet."""
        self.socket = self.directory / "agent"
        self._listener = socket.socket(socket.AF_UNIX)
        self._threads: list[threading.Thread] = []
        self._clients: list[socket.socket] = []

    def __enter__(self) -> FidoAgent:
        """Start to listen."""
        self._listener.bind(str(self.socket))
        self._listener.listen()
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        """End it, with all that wait."""
        self.touch.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for client in self._clients:
            client.shutdown(socket.SHUT_RDWR) if client.fileno() >= 0 else None
        for thread in self._threads:
            thread.join()

    def _start(self, call: object, *arguments: object) -> None:
        thread = threading.Thread(target=call, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as stream:
            try:
                while head := stream.read(4):
                    body = stream.read(int.from_bytes(head, "big"))
                    client.sendall(string(self._answer(body, client)))
            except OSError:
                return  # the client has gone

    def _answer(self, body: bytes, client: socket.socket) -> bytes:
        reader = Reader(body)
        kind = reader.byte()
        if kind == _LIST:
            entries = [
                string(blob) + string(key.comment.encode())
                for key in self.keys
                for blob in (*key.certificates, key.blob)
            ]
            return bytes((_LISTED,)) + uint32(len(entries)) + b"".join(entries)
        if kind == _SIGN:
            blob, data = reader.string(), reader.string()
            for key in self.keys:
                if blob in (key.blob, *key.certificates):
                    self.asked.release()
                    self._await_touch(client)
                    return bytes((_SIGNED,)) + string(key.sign(data))
        return bytes((_FAILURE,))

    def _await_touch(self, client: socket.socket) -> None:
        while not self.touch.wait(0.01):
            try:
                gone = not client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            if gone:
                self.dropped.release()
                raise OSError("nobody waits for a touch any more")


def write_public(key: FidoKey, path: os.PathLike[str]) -> None:
    """Write a public key file, for ssh-keygen."""
    Path(path).write_text(key.public_line + "\n")
