"""Finds and reads private key files, and tells their formats apart.

`file_cache.py`, the login and the tests use it. `openssh_format.py` and `pem_format.py` have the
formats. It never waits for a peer, never talks to an agent, and lets no secret into a repr or an
error.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from base64 import b64decode

from ...errors import KeyFileError, KeyUnreadable, Phase, WrongPassphrase
from ..file_limit import check_file_limit
from ..owned_fd import OwnedFd
from .key_source import Source, unarmour
from .key_text import is_piece_of_key, rewrap, straighten
from .openssh_format import parse_openssh
from .pem_format import parse_pem
from .private_key import PrivateKey
from .public_key import PublicKey, read_blob_type

__all__ = ["check_is_path", "list_default_key_paths", "load_private_key", "parse_private_key",
           "parse_public_key", "read_private_key"]  # fmt: skip

MAX_FILE = 1 << 20
_BEGIN = rb"-----BEGIN ([A-Z0-9 ]{0,32})PRIVATE KEY-----"
_PUBLIC = (
    rb"\s*(ssh-|ecdsa-sha2-|sk-|-----BEGIN ([A-Z0-9 ]{0,32}PUBLIC KEY|CERTIFICATE)-----"
    rb"|---- BEGIN SSH2 PUBLIC KEY)"
)


def load_private_key(
    path: str | os.PathLike[str], passphrase: str | bytes | None = None
) -> PrivateKey:
    """Read a private key file; ``~`` expands.

    It may take a second, because deriving the key of an encrypted file is slow on purpose. Call it
    off the event loop.

    Args:
        path: an OpenSSH, PEM (PKCS#1, SEC 1) or PKCS#8 file.
        passphrase: ignored if the key is not encrypted; "" counts as None.

    Raises:
        KeyUnreadable: the file is missing, may not be read, is no file, or has no key of a
            supported type.
        PassphraseRequired: the key is encrypted and no passphrase was given.
        WrongPassphrase: the key is encrypted and the passphrase does not fit.
    """
    return parse_private_key(read_private_key(path), passphrase, os.fsdecode(path))


def read_private_key(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a key file, for `parse_private_key`.

    Raises:
        KeyUnreadable: see `load_private_key`.
    """
    name = os.fsdecode(path)
    check_is_path(name)
    return _read_file(name)


def check_is_path(name: str) -> None:
    """Refuse what is a piece of a key and no path, without printing it.

    Raises:
        KeyUnreadable: it is one.
    """
    if is_piece_of_key(name):
        raise KeyUnreadable(
            "private_key is neither a path nor the whole text of a key, which begins with "
            "-----BEGIN … PRIVATE KEY-----"
        )


def parse_public_key(data: bytes) -> PublicKey | None:
    """Return the key or certificate in a ``.pub`` file; None if the file has another form."""
    words = straighten(data).split(None, 2)
    try:
        blob = b64decode(words[1], validate=True)
        kind = words[0].decode("ascii")
    except (ValueError, IndexError):
        return None
    if read_blob_type(blob) != kind:
        return None
    comment = words[2] if len(words) > 2 else b""
    return PublicKey(kind, blob, comment.decode("utf-8", "replace").strip())


def parse_private_key(data: bytes, passphrase: str | bytes | None, name: str) -> PrivateKey:
    """Parse the content of a key file; errors name it as `name`.

    Raises:
        KeyUnreadable, PassphraseRequired, WrongPassphrase: see `load_private_key`.
    """
    source = Source(name, _encode_secret(passphrase, name))
    try:
        if len(data) > MAX_FILE:
            raise source.make_error("is larger than 1 MiB, too large for a key")
        return _parse(straighten(data), source)
    except KeyFileError:
        raise
    except Exception as error:
        # Any other error of a parser means that the file is broken.
        raise source.make_error(f"is damaged ({type(error).__name__})") from error


def list_default_key_paths(home: str | os.PathLike[str]) -> list[str]:
    """Return the paths that are tried if no key is named, in order; they need not exist."""
    return [os.path.join(home, ".ssh", name) for name in ("id_rsa", "id_ed25519", "id_ecdsa")]


def _encode_secret(passphrase: str | bytes | None, name: str) -> bytes | None:
    if not passphrase:
        return None
    if isinstance(passphrase, bytes):
        return passphrase
    try:
        return passphrase.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        pass  # raised below, outside: the codec's error carries the text
    raise WrongPassphrase(f"the passphrase for the private key {name} is not valid text")


def _read_file(name: str) -> bytes:
    source = Source(name, None)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        # O_NONBLOCK: a named pipe without a writer must be an error, not a hang.
        with OwnedFd(os.path.expanduser(name), flags) as fd:
            mode = os.fstat(fd).st_mode
            if stat.S_ISDIR(mode):
                raise source.make_error("is a directory")
            if not stat.S_ISREG(mode):
                raise source.make_error("is not a regular file")
            with open(fd, "rb", closefd=False) as file:
                return file.read(MAX_FILE + 1)
    except OSError as error:
        check_file_limit(error, f"cannot read the private key {name}", Phase.AUTH)
        why = _OS_ERRORS.get(error.errno, f"cannot be opened: {error.strerror}")
        raise source.make_error(why) from error
    except ValueError as error:
        raise KeyUnreadable(f"private key {name!r} is not a possible path") from error


_OS_ERRORS: dict[int | None, str] = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "does not exist",
    errno.EACCES: "may not be read: permission denied",
    errno.EPERM: "may not be read: permission denied",
}


def _parse(data: bytes, source: Source) -> PrivateKey:
    begin = re.search(_BEGIN, data)
    if begin is None:
        if data.startswith(b"PuTTY-User-Key-File-"):
            raise source.make_error(
                "is in PuTTY's format; convert it with: puttygen KEY.ppk -O private-openssh -o KEY"
            )
        if re.match(_PUBLIC, data):
            raise source.make_error("holds a public key or certificate; name the private key")
        if b"PRIVATEKEY-----" in data:
            raise source.make_error("has lost the blanks in its first line")
        raise source.make_error("holds no private key in OpenSSH, PEM or PKCS#8 format")
    label = begin[1].decode().strip()
    marker = begin[0].replace(b"BEGIN", b"END", 1)
    end = data.find(marker, begin.end())
    if end < 0:
        raise source.make_error("is damaged: the file ends within the key")
    if label == "OPENSSH":
        return parse_openssh(unarmour(data[begin.end() : end]), source)
    if label not in ("", "ENCRYPTED", "RSA", "EC"):
        raise source.make_unsupported_error(label)
    body = rewrap(data[begin.end() : end])
    return parse_pem(begin[0] + body + marker + b"\n", label, source)
