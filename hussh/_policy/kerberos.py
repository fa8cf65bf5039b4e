"""The user's Kerberos ticket, by the package ``gssapi`` (the extra ``hussh[gssapi]``).

The login (`_protocol/auth_gssapi.py`) uses it and has the messages. The package is imported when a
login first needs it. Every method may read files, and may ask a KDC and wait for it, so operations
yield the calls as `RunBlocking`. The server's name is never resolved here, nor by the Kerberos
library: behind a bastion only the bastion can do that.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import printable

if TYPE_CHECKING:
    from ctypes import CDLL

__all__ = ["KERBEROS", "KerberosContext", "KerberosError", "has_gssapi", "has_ticket",
           "get_principal"]  # fmt: skip

#: The mechanism's OID, 1.2.840.113554.1.2.2, in DER (RFC 4462 section 3.2).
KERBEROS = bytes.fromhex("06092a864886f712010202")

#: In libkrb5: a name that is taken as it is, without a look at DNS.
_NT_UNKNOWN = 0
#: Names of MIT's library, the system's own.
_LIBRARIES = ("libkrb5.so.3", "libkrb5.so")

_KINIT = "get a ticket with kinit"
#: By libkrb5's code, without its upper half (its table begins at -1765328384): what to do.
_ADVICE = {
    7: "Kerberos knows the server by another name: gssapi= takes it, such as"
    ' "host.example.com" or "host/host.example.com@REALM"',
    32: _KINIT,  # expired
    37: "set this machine's clock",
    154: "the realm is not known here: look at krb5.conf",
    156: "no KDC of the realm answers: look at krb5.conf and the network",
}
_TABLE = -1765328384


class KerberosError(Exception):
    """The reason why Kerberos does not help, with what to do; it is fit to print."""


def has_gssapi() -> bool:
    """Tell whether the package ``gssapi`` is installed; does not import it."""
    from importlib.util import find_spec  # here, because few programs ask

    return find_spec("gssapi") is not None


def has_ticket() -> bool:
    """Tell whether there are credentials of the user to log in with; asks no KDC."""
    try:
        left: int | None = _get_credentials(_import_gssapi()).lifetime  # seconds; None means no end
        return left is None or left > 0
    except KerberosError:
        return False
    except Exception:  # of the package's many: expired ones, too
        return False


class KerberosContext:
    """One login at one server (RFC 2743): tokens go to and fro until `is_complete`.

    Its methods raise `KerberosError`.
    """

    def __init__(self, server: str) -> None:
        """Keep the server's principal, or its host's name; nothing is opened."""
        self._server = server
        self._context: Any = None

    @property
    def is_complete(self) -> bool:
        return self._context is not None and bool(self._context.complete)

    def begin(self) -> bytes:
        """Return the first token, with a ticket for the server."""
        library = _import_gssapi()
        principal = self._server if "/" in self._server else get_principal(self._server)
        flags = library.RequirementFlag
        try:
            self._context = library.SecurityContext(
                name=library.Name(principal, library.NameType.kerberos_principal),
                creds=_get_credentials(library),
                mech=library.MechType.kerberos,
                flags=flags.mutual_authentication | flags.integrity,
                usage="initiate",
            )
            token: bytes = self._context.step() or b""
        except library.exceptions.GSSError as error:
            raise _explain(error, f" for {printable(principal)}") from None
        return token

    def step(self, token: bytes) -> bytes:
        """Take the server's token and return the next one for it, which may be empty."""
        library = _import_gssapi()
        try:
            answer: bytes = self._context.step(token) or b""
            if self._context.complete and not (
                self._context.actual_flags & library.RequirementFlag.integrity
            ):
                raise KerberosError("the server's Kerberos cannot sign")
        except library.exceptions.GSSError as error:
            raise _explain(error, "") from None
        return answer

    def sign(self, data: bytes) -> bytes:
        """Return the MIC of some data (RFC 4462 section 3.5); the context is complete."""
        library = _import_gssapi()
        try:
            signature: bytes = self._context.get_signature(data)
        except library.exceptions.GSSError as error:
            raise _explain(error, "") from None
        return signature


def get_principal(host: str) -> str:
    """Return the principal of a host, with its realm if krb5.conf tells it.

    Without a realm, behind the ``@``, the user's own KDC finds it.  The name is taken as it is:
    GSSAPI's own kind of name for a service would be resolved on this machine, forth and back.
    """
    import ctypes  # here, because few programs need it

    plain = f"host/{host.lower()}@"
    for name in _LIBRARIES:
        try:
            return _ask_library(ctypes.CDLL(name), host.lower()) or plain
        except (OSError, AttributeError):  # not this library
            continue
    return plain


def _ask_library(library: CDLL, host: str) -> str:
    import ctypes

    context, principal, text = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    if library.krb5_init_context(ctypes.byref(context)):
        return ""
    try:
        if library.krb5_sname_to_principal(
            context, host.encode(), b"host", _NT_UNKNOWN, ctypes.byref(principal)
        ):
            return ""
        try:
            if library.krb5_unparse_name(context, principal, ctypes.byref(text)):
                return ""
            try:
                return ctypes.string_at(text).decode()
            finally:
                library.krb5_free_unparsed_name(context, text)
        finally:
            library.krb5_free_principal(context, principal)
    finally:
        library.krb5_free_context(context)


def _import_gssapi() -> Any:
    try:
        return import_module("gssapi")
    except (ImportError, OSError) as error:  # OSError: of a library that it looks for
        raise KerberosError(f"the package gssapi cannot be used: {printable(str(error))}") from None


def _get_credentials(library: Any) -> Any:
    return library.Credentials(usage="initiate", mechs=[library.MechType.kerberos])


def _explain(error: Any, whom: str) -> KerberosError:
    """Return an error of the package in words that say what to do."""
    code = ((error.min_code - _TABLE) & 0xFFFFFFFF) if error.min_code else 0
    texts = error.get_all_statuses(error.min_code, False) if error.min_code else []
    texts = texts or error.get_all_statuses(error.maj_code, True)
    text = printable("; ".join(str(one) for one in texts))
    advice = _ADVICE.get(code, "")
    if not advice and isinstance(error, _lacks_ticket()):
        advice = _KINIT
    return KerberosError(f"{text}{whom if code == 7 else ''}{advice and ': '}{advice}")


def _lacks_ticket() -> tuple[type[Exception], ...]:
    exceptions = import_module("gssapi").exceptions
    return exceptions.MissingCredentialsError, exceptions.ExpiredCredentialsError
