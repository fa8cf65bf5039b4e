"""Logs in with the keys that the user names: files, texts, objects, and keys of the agent.

`auth` calls it. A key that can sign is offered with its signature at once. A public key, or a key
whose passphrase is not known, means this key of the agent, which is then the only one of its keys
that is offered.
"""

from __future__ import annotations

import copy
import os

from .._native.link import Link
from .._policy.file_cache import Credential, KeyFile, KeyText
from .._policy.keys.certificates import belongs_to, load_certificate
from .._policy.keys.given_keys import GivenKey
from .._policy.keys.public_key import PublicKey
from ..errors import AuthenticationError, KeyFileError, KeyRefused, KeyUnreadable, printable
from . import agent
from .auth_messages import Outcome
from .auth_methods import Login
from .core import DeadlineExceeded, Op, RunBlocking

__all__ = ["list_agent_keys", "load_file", "load_given_certificate", "try_given_keys"]


def load_file(link: Link, path: str | os.PathLike[str], passphrase: str | None) -> Op[Credential]:
    """Load a key file, shared with other logins that need it; may raise KeyFileError."""
    return (yield from _load(link, KeyFile.of(path, passphrase)))


def _load(link: Link, source: KeyFile | KeyText) -> Op[Credential]:
    # Other logins share it for as long as this link lives.
    link.attached.setdefault(KeyFile, []).append(source)
    credential = source.get_cached()
    if credential is None:
        cached = source.bind_cached()
        credential = yield RunBlocking(
            lambda _: source.load(), detachable=True, dedupe_key=source, cached=cached
        )
    return credential


def load_given_certificate(login: Login) -> Op[None]:
    """Read what ``certificate=`` names; raises KeyUnreadable."""
    given = login.options.settings["certificate"]
    if given:
        login.certificate = yield RunBlocking(lambda _: load_certificate(given), detachable=True)


def list_agent_keys(login: Login, path: str) -> Op[list[PublicKey]]:
    """Return the keys of the agent at a socket path; none, with a word in errors, if it fails."""
    try:
        answer = yield login.ask(
            path, agent.request_identities(), "asking ssh-agent to list its keys"
        )
        return agent.filter_identities(agent.parse_identities(answer))
    except DeadlineExceeded as timeout_error:
        timeout_error.waiting = "ssh-agent to list its keys"
        raise
    except (OSError, AuthenticationError) as error:
        login.note_not_tried("ssh-agent", printable(str(error)))
        return []


def try_given_keys(login: Login) -> Op[tuple[Outcome, bool]]:
    """Offer each named key in turn, until one is taken.

    Returns:
        what the last attempt came to, and whether the password was the passphrase of a key that
        was offered.

    Raises:
        KeyFileError: none of the keys can be used.
    """
    keys, passphrase = login.options.keys, login.options.password or None
    names = ", ".join(key.name for key in keys)
    login.verdict = f"the server refused the key{'s' if len(keys) > 1 else ''} {names}"
    login.kind = KeyRefused
    outcome, was_encrypted, is_used = Outcome.FAILURE, False, False
    has_certificate = False
    unusable: KeyFileError | None = None
    for key in keys:
        try:
            credential = yield from _load_credential(login, key, passphrase)
            is_passphrase = was_encrypted or credential.was_encrypted
            is_last = key is keys[-1] and login.options.settings["prompt"] is None
            is_last &= passphrase is None or is_passphrase
            outcome = yield from _offer(login, key, credential, is_last)
        except KeyFileError as error:
            unusable = unusable or error
            login.note_not_tried(f"key {key.name}", type(error).__name__)
            continue
        is_used = True
        if login.certificate is not None:
            has_certificate |= belongs_to(login.certificate, credential.public)
        was_encrypted |= credential.was_encrypted
        if outcome is not Outcome.FAILURE or not login.may_take("publickey"):
            break
    if unusable is not None and not is_used:
        raise unusable
    if login.certificate is not None and not has_certificate:
        login.note_not_tried("certificate=", "it belongs to none of these keys")
    return outcome, was_encrypted


def _load_credential(login: Login, key: GivenKey, passphrase: str | None) -> Op[Credential]:
    if key.key is not None:
        return Credential(key.key, None, False, key.key.public)
    if key.text is not None:
        return (yield from _load(login.link, KeyText.of(key.text, key.name, passphrase)))
    return (yield from load_file(login.link, str(key.path), passphrase))


def _offer(login: Login, given: GivenKey, credential: Credential, is_last: bool) -> Op[Outcome]:
    """Offer a certificate of the key first, then the key; an RSA key in two ways.

    `is_last`: no other credential is left.
    """
    certificate, name = credential.certificate, f"{given.name}-cert.pub"
    if login.certificate is not None and belongs_to(login.certificate, credential.public):
        certificate, name = login.certificate, f"{given.name} with certificate="
    if credential.key is None:
        return (yield from _offer_of_agent(login, given, credential, certificate))
    key, outcome = credential.key, Outcome.FAILURE
    if certificate is not None:
        outcome = yield from login.try_key(key, name, certificate=certificate)
    for choice in (0, 1):
        if outcome is Outcome.FAILURE and login.may_take("publickey"):
            outcome = yield from login.try_key(key, given.name, choice, is_last=is_last)
    return outcome


def _offer_of_agent(
    login: Login, given: GivenKey, credential: Credential, certificate: PublicKey | None
) -> Op[Outcome]:
    public = credential.public
    path = agent.find_socket_path(login.options.settings["agent"], os.environ)
    found = None
    if path:
        identities = yield from list_agent_keys(login, path)
        found = next((one for one in identities if one.blob == public.blob), None)
    if not path or found is None:
        raise _make_agent_error(given, credential, has_agent=bool(path))
    outcome = Outcome.FAILURE
    if certificate is not None:
        outcome = yield from login.try_agent_key(path, found, certificate=certificate)
    for choice in (0, 1):
        if outcome is Outcome.FAILURE and login.may_take("publickey"):
            outcome = yield from login.try_agent_key(path, found, choice)
    return outcome


def _make_agent_error(given: GivenKey, credential: Credential, *, has_agent: bool) -> KeyFileError:
    fingerprint = credential.public.fingerprint
    lacks = (
        f"the ssh-agent does not have it ({fingerprint})"
        if has_agent
        else f"there is no ssh-agent that could have it ({fingerprint}): SSH_AUTH_SOCK is not set"
    )
    if credential.locked is not None:
        error: KeyFileError = copy.copy(credential.locked)
        error.add(lacks)
        return error
    return KeyUnreadable(f"private key {given.name} is a public key only, and {lacks}")
