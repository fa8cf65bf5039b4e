"""Key pairs made by the real ssh-keygen, each made once per session and only when asked for.

For ``tests/support`` and tests. All variants (passphrase, file format) of one named key hold the
same key, so a server that lets one of them in lets all of them in.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .processes import clean_environment

# kind -> arguments of ssh-keygen. RSA has the smallest size that no server here refuses.
_KINDS = {
    "ed25519": ("-t", "ed25519"),
    "ecdsa-256": ("-t", "ecdsa", "-b", "256"),
    "ecdsa-384": ("-t", "ecdsa", "-b", "384"),
    "ecdsa-521": ("-t", "ecdsa", "-b", "521"),
    "rsa": ("-t", "rsa", "-b", "2048"),
}
KINDS = tuple(_KINDS)
#: Made only where a test asks for it.
_WEAK_KINDS = {"rsa-1024": ("-t", "rsa", "-b", "1024")}
FORMATS = ("OpenSSH", "PEM", "PKCS8")


@dataclass(frozen=True)
class Key:
    """One private key file and what is public about it."""

    path: Path
    kind: str
    format: str
    passphrase: str | None
    public_line: str  # "type base64 comment", no newline

    def __repr__(self) -> str:
        """Return a form without the passphrase."""
        locked = "encrypted" if self.passphrase else "plain"
        return f"Key({self.kind}, {self.format}, {locked})"

    @property
    def algorithm(self) -> str:
        """The key type as SSH spells it, such as ``ssh-ed25519``."""
        return self.public_line.split()[0]

    @property
    def blob(self) -> bytes:
        """The public key in wire form (RFC 4253 section 6.6)."""
        return base64.b64decode(self.public_line.split()[1])

    @property
    def fingerprint(self) -> str:
        """The fingerprint as OpenSSH prints it, ``SHA256:…``."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode()
        return f"SHA256:{digest.rstrip('=')}"

    @property
    def text(self) -> str:
        """The contents of the private key file."""
        return self.path.read_text()


class Keys:
    """A lazily filled cache of key pairs in one directory."""

    def __init__(self, directory: Path, shared: Path | None = None) -> None:
        """Use ``directory``, which must exist and belong to the tests.

        In ``shared`` the processes of one run make keys for one another, because a new RSA key
        costs the time of a whole test.
        """
        self._directory = directory
        self._shared = shared or directory / "shared"
        self._shared.mkdir(exist_ok=True)
        self._made: dict[tuple[str, str, str, str | None], Key] = {}

    def get(
        self,
        kind: str = "ed25519",
        *,
        name: str = "user",
        passphrase: str | None = None,
        format: str = "OpenSSH",
    ) -> Key:
        """Return the key ``name`` of this kind, one of ``KINDS``, in one of ``FORMATS``.

        Raises ``ValueError`` for a combination that no ssh-keygen writes: Ed25519 as PEM.
        """
        if kind == "ed25519" and format == "PEM":
            raise ValueError("there is no PEM format of its own for Ed25519 keys")
        wanted = (kind, name, format, passphrase)
        if wanted not in self._made:
            self._made[wanted] = self._make(*wanted)
        return self._made[wanted]

    def _make(self, kind: str, name: str, format: str, passphrase: str | None) -> Key:
        if (format, passphrase) == ("OpenSSH", None):
            path = self._directory / f"{name}_{kind}"
            public = self._made_once(kind, name)
            for file in (public.with_suffix(""), public):
                shutil.copy(file, self._directory)
            return Key(path, kind, format, None, public.read_text().strip())
        plain = self.get(kind, name=name)
        path = self._directory / f"{name}_{kind}_{format}_{len(self._made)}"
        shutil.copy(plain.path, path)
        if kind == "ed25519" and format == "PKCS8":
            _write_pkcs8(plain, path, passphrase)
        else:
            # One bcrypt round: the cost of guessing is not what the tests are about.
            arguments = ["-q", "-p", "-P", "", "-N", passphrase or "", "-a", "1", "-f", str(path)]
            _keygen(*arguments, *(() if format == "OpenSSH" else ("-m", format)))
        return Key(path, kind, format, passphrase, plain.public_line)

    def _made_once(self, kind: str, name: str) -> Path:
        """Return the public half of a plain pair that one of the processes has made."""
        private = self._shared / f"{name}_{kind}"
        public = private.with_name(f"{private.name}.pub")
        with private.with_name(f"{private.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not public.exists():
                how = {**_KINDS, **_WEAK_KINDS}[kind]
                _keygen("-q", *how, "-N", "", "-C", f"{name}@tests", "-f", str(private))
        return public


def _keygen(*arguments: str) -> None:
    subprocess.run(
        ["ssh-keygen", *arguments],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=clean_environment(),
    )


def _write_pkcs8(plain: Key, path: Path, passphrase: str | None) -> None:
    # ssh-keygen learnt this in 9.6; before that it silently writes its own format.
    from cryptography.hazmat.primitives import serialization as form

    private = form.load_ssh_private_key(plain.path.read_bytes(), password=None)
    lock: form.KeySerializationEncryption = form.NoEncryption()
    if passphrase is not None:
        lock = form.BestAvailableEncryption(passphrase.encode())
    path.write_bytes(private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, lock))
