"""User authentication (RFC 4252, 4256): which credentials are tried, and in which order.

`handshake.py` runs `authenticate`; `auth_methods.py` has the methods. An explicit key is tried
first, then what the server asks for besides. Without a key, the password is tried. A Kerberos
ticket that the caller asks for (``gssapi=``) comes before both. With none of these, the order is
``none``, a ticket that the ssh configuration asks for, the agent's keys, the default key files and,
if there is a prompt=, the user's answers.

A private key of a file is offered together with its signature. So an explicit key costs the server
exactly one attempt and one round trip, or two if it is RSA and refused (see
`Login.choose_algorithm`). Keys of the agent are first offered without a signature, because signing
there may need a touch.

The first request does not wait for the server's answer to our request for the ssh-userauth service.
Both are on the way at once. That saves a round trip at servers that set TCP_NODELAY (sshd since
10.1). Elsewhere Nagle's algorithm holds the second answer back until the first is acknowledged, and
little is saved (docs/latency.md). An RSA key waits for the list of signature algorithms (RFC 8308)
that decides how it signs: that comes right behind the key exchange, or not before that answer. Nor
does the first key wait for the answer to ``none``, if the server is known to allow that
(`Login.try_none`), nor the next keys of the agent for that to the first (`auth_queries.py`). What
is to be opened after the login may be asked for right behind the last request (`early_open.py`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial

from .._native.link import Link
from .._policy.keys.certificates import belongs_to
from .._policy.keys.identity_files import Identities, read_identities
from .._policy.keys.key_files import list_default_key_paths
from .._policy.keys.public_key import PublicKey
from .._policy.options import Options
from ..errors import AuthenticationError, HusshError, KeyFileError, KeyUnreadable
from . import agent
from .auth_given_keys import list_agent_keys, load_file, load_given_certificate, try_given_keys
from .auth_gssapi import METHOD as GSSAPI
from .auth_gssapi import may_try_gssapi, try_gssapi
from .auth_messages import AskAgent, Outcome
from .auth_methods import NOT_ASKED, Login
from .auth_questions import answer_questions
from .core import DeadlineExceeded, Op, RunBlocking
from .early_open import EarlyOpen
from .story import HopStory

__all__ = ["AskAgent", "authenticate"]

#: One below sshd's default MaxAuthTries, which counts them all.
ATTEMPTS_MAX = 5
NO_TICKET = "Kerberos gave no ticket for the server"
TICKET_REFUSED = "the server refused the Kerberos ticket"

_log = logging.getLogger("hussh.auth")


def authenticate(
    link: Link,
    options: Options,
    hop: str,
    ask_agent: AskAgent,
    story: HopStory | None = None,
    early: EarlyOpen | None = None,
) -> Op[None]:
    """Log in.

    Raises:
        AuthenticationError: no credential was accepted; KeyFileError and KeyRefused are among
            its kinds.
    """
    login = Login(link, options, hop, ask_agent, story, early)
    try:
        done = yield from _log_in(login)
        if not done:
            raise login.make_error()
        yield from login.write_log()
        yield from _note(f"[{hop}] logged in: {login.tried[-1]}")
    except AuthenticationError as error:
        yield from login.write_log()
        yield from _note(f"[{hop}] not logged in: {error.text}")
        login.early.note_failure(link)
        raise
    except DeadlineExceeded as timeout_error:
        login.banners.note_waiting(link)
        timeout_error.banner = login.banners.describe()
        raise
    except HusshError as error:
        error.add(login.banners.describe())
        login.early.note_failure(link)
        raise


def _note(text: str) -> Op[None]:
    """Log a line, in a call that may block because handlers may wait."""
    if _log.isEnabledFor(logging.INFO):
        yield RunBlocking(lambda _: _log.info("%s", text), detachable=True)


def _log_in(login: Login) -> Op[bool]:
    options = login.options
    yield from load_given_certificate(login)
    if options.gives_ticket:
        outcome = yield from try_gssapi(login)
        if outcome is Outcome.SUCCESS:
            return True
        if not options.keys and options.password is None:
            return (yield from _try_behind_ticket(login, outcome))
    if options.keys:
        login.hint = NOT_ASKED
        return (yield from _try_key(login))
    if options.password is not None:
        login.hint = NOT_ASKED
        return (yield from _try_password(login, options.password))
    login.verdict = options.defaults_failed
    done = yield from login.try_none()
    is_first = _prefers_ticket(options)
    done = done or (is_first and (yield from _try_configured_ticket(login)))
    done = done or (yield from _try_defaults(login))
    done = done or (not is_first and (yield from _try_configured_ticket(login)))
    done = done or (yield from login.read_none_answer())  # where there was nothing to try
    if not done and options.settings["prompt"] is not None:
        done = yield from _try_password(login, None)
    return done


def _try_behind_ticket(login: Login, outcome: Outcome | None) -> Op[bool]:
    """Go on where a Kerberos ticket was the only credential given, and was not enough."""
    if outcome is Outcome.PARTIAL:
        if (yield from _try_defaults(login)):
            return True
    else:
        login.verdict = NO_TICKET if outcome is None else TICKET_REFUSED
        login.hint = "" if outcome is None else NOT_ASKED
    if login.options.settings["prompt"] is not None:
        return (yield from _try_password(login, None))
    return False


def _prefers_ticket(options: Options) -> bool:
    """Tell whether Kerberos comes before keys, as it does for ssh unless it is told otherwise."""
    order = options.configured.methods or ()
    if GSSAPI not in order or "publickey" not in order:
        return True
    return order.index(GSSAPI) < order.index("publickey")


def _try_configured_ticket(login: Login) -> Op[bool]:
    """Try a Kerberos ticket, if there is one, where the ssh configuration says so."""
    if not login.options.settings["gssapi"] or not (yield from may_try_gssapi()):
        return False
    if (yield from login.read_none_answer()):
        return True
    if not login.may_take(GSSAPI):
        return False
    return (yield from try_gssapi(login)) is Outcome.SUCCESS


def _try_key(login: Login) -> Op[bool]:
    options = login.options
    secret = options.password
    outcome, was_encrypted = yield from try_given_keys(login)
    if outcome is Outcome.SUCCESS:
        return True
    asks_user = options.settings["prompt"] is not None and login.may_take("keyboard-interactive")
    if was_encrypted and (outcome is not Outcome.PARTIAL or asks_user):
        # It goes to the server only where that took the key, wants a second factor, and
        # there is nobody else to ask.
        secret = None
    if secret is not None or options.settings["prompt"] is not None:
        done = yield from _try_password(login, secret)
        if done:
            return True
    if outcome is Outcome.PARTIAL:
        return (yield from _try_defaults(login))
    return False


def _try_password(login: Login, password: str | None) -> Op[bool]:
    refused = False
    if password is not None and login.prefers_questions():
        outcome = yield from answer_questions(login, password)
        if outcome is not Outcome.FAILURE:
            return outcome is Outcome.SUCCESS
    if password is not None and login.may_take("password"):
        is_last = login.options.settings["prompt"] is None
        outcome = yield from login.try_password(password, is_last=is_last)
        if outcome is Outcome.SUCCESS:
            return True
        refused = outcome is Outcome.FAILURE and login.may_take("password")
    if login.may_take("keyboard-interactive") and not (
        refused and login.options.settings["prompt"] is None
    ):
        # A password that was refused by one method is not sent again by another.
        outcome = yield from answer_questions(login, None if refused else password)
        if outcome is Outcome.SUCCESS:
            return True
        if outcome is Outcome.PARTIAL and password is not None and login.may_take("password"):
            outcome = yield from login.try_password(password)
            return outcome is Outcome.SUCCESS
    return False


def _try_defaults(login: Login) -> Op[bool]:
    """Try the agent's keys, then the default files; return `False` if nothing was accepted."""
    again: list[Callable[[], Op[Outcome]]] = []
    configured = login.options.configured
    named: Identities | None = None
    if configured.has_keys and login.may_take("publickey"):
        named = yield RunBlocking(lambda _: read_identities(configured), detachable=True)
    path = agent.find_socket_path(login.options.settings["agent"], os.environ)
    if path and login.may_take("publickey"):
        identities = yield from list_agent_keys(login, path)
        if named is not None:
            identities = named.sort(identities, only=configured.identities_only)
        login.not_offered = len(identities)
        login.ask_ahead(
            public
            for public in identities
            if public.blob not in login.offered
            and not _find_given_certificate(login, named, public)
        )
        for public in identities:
            if login.failures >= ATTEMPTS_MAX or not login.may_take("publickey"):
                break
            login.not_offered -= 1
            if public.blob in login.offered:
                continue
            given = _find_given_certificate(login, named, public)
            if given is not None:
                outcome = yield from login.try_agent_key(path, public, certificate=given)
                if outcome is Outcome.SUCCESS:
                    return True
            outcome = yield from login.try_agent_key(path, public)
            if outcome is Outcome.SUCCESS:
                return True
            again.append(partial(login.try_agent_key, path, public, 1))
    if not login.may_take("publickey"):
        files = []
    elif named is not None:
        files = list(named.files)
    else:
        files = yield RunBlocking(lambda _: _list_existing_defaults())
    for file in files:
        if not login.may_take("publickey"):
            break
        try:
            credential = yield from load_file(login.link, file, None)
            if credential.key is None:  # the agent was asked before
                raise credential.locked or KeyUnreadable(f"{file} is a public key")
        except KeyFileError as error:
            login.note_not_tried(f"key {file}", type(error).__name__)
            continue
        key, certificate = credential.key, credential.certificate
        name = f"{file}-cert.pub"
        other = _find_given_certificate(login, named, key.public)
        if other is not None:
            certificate, name = other, f"the certificate of {file}"
        if certificate is not None and certificate.blob not in login.offered:
            outcome = yield from login.try_key(key, name, certificate=certificate)
            if outcome is Outcome.SUCCESS:
                return True
        if key.public.blob in login.offered or not login.may_take("publickey"):
            continue
        outcome = yield from login.try_key(key, str(file))
        if outcome is Outcome.SUCCESS:
            return True
        again.append(partial(login.try_key, key, str(file), 1))
    for attempt in again:
        if login.failures >= ATTEMPTS_MAX or not login.may_take("publickey"):
            break
        outcome = yield from attempt()
        if outcome is Outcome.SUCCESS:
            return True
    return False


def _find_given_certificate(
    login: Login, named: Identities | None, public: PublicKey
) -> PublicKey | None:
    """Return the certificate that the caller, or the ssh configuration, names for this key."""
    if login.certificate is not None and belongs_to(login.certificate, public):
        return login.certificate
    return None if named is None else named.find_certificate(public)


def _list_existing_defaults() -> list[str]:
    """Return the default key files that exist; touches the file system."""
    found: list[str] = []
    for path in list_default_key_paths(os.path.expanduser("~")):
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            pass  # such as a home of another user; reading it will raise the error
        found.append(path)
    return found
