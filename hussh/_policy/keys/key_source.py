"""Holds what the readers of a private key share: its name for errors, and its passphrase.

`key_files.py`, `openssh_format.py`, `pem_format.py` and `private_key.py` use it. It opens no file,
and no secret gets into its errors.
"""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass

from ...errors import KeyUnreadable, PassphraseRequired, WrongPassphrase
from .public_key import PublicKey

__all__ = ["Source", "unarmour"]


@dataclass(frozen=True, eq=False, repr=False)
class Source:
    """The name of what is being read, for errors, and the passphrase for it."""

    name: str
    passphrase: bytes | None

    def make_error(self, why: str) -> KeyUnreadable:
        return KeyUnreadable(f"private key {self.name} {why}")

    def need_passphrase(self, public: PublicKey | None = None) -> bytes:
        """Return the passphrase.

        Args:
            public: the public half, where the file has it outside of the encrypted part.

        Raises:
            PassphraseRequired: there is none.
        """
        if self.passphrase is None:
            error = PassphraseRequired(
                f"private key {self.name} is encrypted and no passphrase was given"
            )
            error.public_blob = None if public is None else public.blob
            raise error
        return self.passphrase

    def make_passphrase_error(self) -> WrongPassphrase:
        return WrongPassphrase(f"the passphrase does not fit the private key {self.name}")

    def make_unsupported_error(self, kind: str) -> KeyUnreadable:
        if kind.startswith("sk-"):
            return self.make_error(
                f"is a handle to a FIDO security key ({kind}): use it through ssh-agent"
            )
        if kind in ("DSA", "ssh-dss"):
            return self.make_error("is a DSA key; SSH servers no longer accept those")
        return self.make_error(f"is of the kind {kind!r}; only Ed25519, ECDSA and RSA can be used")


def unarmour(text: bytes) -> bytes:
    return b64decode(b"".join(text.split()), validate=True)
