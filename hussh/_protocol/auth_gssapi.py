"""Logs in with a Kerberos ticket: the method ``gssapi-with-mic`` (RFC 4462 section 3).

`auth.py` decides when. A call of the Kerberos library may wait for a KDC, and is yielded. The
ticket is fetched before the server is asked, so that no attempt is lost where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from .._policy.kerberos import KERBEROS, KerberosContext, KerberosError, has_ticket
from .._policy.wire import string, uint32
from ..errors import ProtocolError, printable
from .auth_messages import Outcome
from .auth_methods import Login
from .core import DeadlineExceeded, Op, RunBlocking

__all__ = ["METHOD", "may_try_gssapi", "try_gssapi"]

METHOD = "gssapi-with-mic"
RESPONSE, TOKEN, ERROR, ERROR_TOKEN, MIC = 60, 61, 64, 65, 66
#: Kerberos needs one token each way.
TOKENS_MAX = 10

T = TypeVar("T")


def may_try_gssapi() -> Op[bool]:
    """Tell whether there is a ticket, where only the ssh configuration asks for the method."""
    return (yield from _call(has_ticket))


def try_gssapi(login: Login) -> Op[Outcome | None]:
    """Try the user's ticket; return None if there is none, so that the server was not asked.

    The error of the login tells why there is none, or what the server's Kerberos said.
    """
    given = login.options.settings["gssapi"]
    server = given if isinstance(given, str) else login.options.host
    context = KerberosContext(server)
    try:
        token = yield from _call(context.begin)
    except KerberosError as error:
        login.note_not_tried(METHOD, str(error))
        return None
    try:
        return (yield from _exchange(login, context, token))
    except KerberosError as error:
        _note(login, str(error))
        return Outcome.FAILURE


def _note(login: Login, reason: str) -> None:
    login.tried[-1] = f"{METHOD} (the server's Kerberos: {reason})"


def _call(make: Callable[[], T]) -> Op[T]:
    try:
        made: T = yield RunBlocking(lambda _: make(), detachable=True)
        return made
    except DeadlineExceeded as timeout_error:
        timeout_error.waiting = "Kerberos, whose KDC may not answer"
        raise


def _exchange(login: Login, context: KerberosContext, token: bytes) -> Op[Outcome]:
    link = login.link
    request = login.request(METHOD)
    login.begin(METHOD)
    link.send(request + uint32(1) + string(KERBEROS))
    reader = yield from login.read_reply()
    if reader.rest[:1] != bytes((RESPONSE,)):
        return login.judge_outcome(reader)
    reader.byte()
    if reader.string() != KERBEROS:
        raise ProtocolError("the server chose a GSSAPI mechanism that was not offered")
    link.send(bytes((TOKEN,)) + string(token))
    for _ in range(TOKENS_MAX):
        if context.is_complete:
            signed = string(link.session_id) + request
            mic = yield from _call(partial(context.sign, signed))
            link.send(bytes((MIC,)) + string(mic))
            return (yield from login.wait_final(METHOD))
        reader = yield from login.read_reply()
        kind = reader.rest[:1]
        if kind not in (bytes((TOKEN,)), bytes((ERROR,)), bytes((ERROR_TOKEN,))):
            return login.judge_outcome(reader)
        reader.byte()
        if kind == bytes((ERROR,)):
            reader.uint32()  # GSSAPI's codes
            reader.uint32()
            _note(login, printable(reader.text()))
            continue
        try:
            # An error's token makes the library raise what it says; FAILURE follows.
            answer = yield from _call(partial(context.step, reader.string()))
        except KerberosError as error:
            if kind != bytes((ERROR_TOKEN,)):
                raise
            _note(login, str(error))
            continue
        if answer:
            link.send(bytes((TOKEN,)) + string(answer))
    raise ProtocolError(f"the server sent more than {TOKENS_MAX} GSSAPI tokens")
