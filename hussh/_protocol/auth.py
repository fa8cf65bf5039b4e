"""User authentication (RFC 4252, 4256), message by message.

The order of attempts: an explicit key and then what the server asks for
besides; or the password; or the agent's keys, the default key files and, where
there is a prompt=, what the user answers.  A
private key of a file is offered together with its signature, so an explicit key
costs the server exactly one attempt and one round trip (a refused one, if it is
RSA, a second: see `algorithm`); keys of the agent are offered first without,
because signing there may need a touch.

The first request does not wait for the server's answer to our request for the
ssh-userauth service: both are on the way at once, which saves a round trip.
Only an RSA key has to wait, since the answer comes after the list of signature
algorithms (RFC 8308) that decides how it signs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from functools import lru_cache, partial
from typing import Any, Protocol

from .._native.constants import Death, Phase
from .._native.link import Link
from .._policy.certificates import plain
from .._policy.kept import Credential, KeyFile
from .._policy.key_files import default_key_paths
from .._policy.options import Options, Prompt, PromptCallback, PromptRequest, is_secret
from .._policy.private_key import PrivateKey
from .._policy.public_key import PublicKey
from .._policy.signature_algorithms import signature_algorithms
from .._policy.wire import Reader, boolean, string, uint32
from ..errors import (
    AuthenticationError,
    KeyFileError,
    KeyRefused,
    ProtocolError,
    printable,
)
from . import agent
from .core import Blocking, DeadlineExceeded, Op, Progress

__all__ = ["AskAgent", "authenticate"]

REQUEST, FAILURE, SUCCESS, BANNER = 50, 51, 52, 53
INFO_REQUEST = PK_OK = PASSWORD_CHANGE = 60  # what 60 means depends on the method
INFO_RESPONSE = 61
#: One below sshd's default MaxAuthTries, which counts them all.
ATTEMPTS_MAX = 5
ROUNDS_MAX = 20
#: Characters in an error of the questions that a server asked.
MOST_TOLD = 1000
# These words are in the error of 0.3.3, and its users look for them.
FAILED = "Authentication failed: "
ALL_REFUSED = "the server refused every credential that was given"
ONE_OF_MANY = "the server took a first credential and wants another, which it did not get"


class AskAgent(Protocol):
    """Makes the call that sends the agent at a socket path one framed request.

    Its result is the framed answer.  `note` is for the log: what is asked; `touch`:
    whether the agent may have to wait for a touch.
    """

    def __call__(self, path: str, request: bytes, note: str, touch: bool = False) -> Blocking: ...


class _Outcome(Enum):
    SUCCESS = "success"
    PARTIAL = "accepted, but the server wants more"
    FAILURE = "refused"


@lru_cache(maxsize=64)
def _head(username: str, method: str) -> bytes:
    """What requests begin with (RFC 4252 section 5)."""
    names = (username, "ssh-connection", method)
    return bytes((REQUEST,)) + b"".join([string(name.encode()) for name in names])


@lru_cache(maxsize=64)
def _key_request(username: str, algorithm: str, blob: bytes, signed: bool) -> bytes:
    """The same for a key, up to the signature (RFC 4252 section 7)."""
    fields = boolean(signed) + string(algorithm.encode()) + string(blob)
    return _head(username, "publickey") + fields


class _Login:
    """One authentication: what was tried, and what the server last said.

    Attributes:
        verdict, kind: text and class of the error, if the login fails now.
        unanswered: the prompts for which there was no answer.
        not_offered: how many keys of the agent were left out.
    """

    def __init__(self, link: Link, options: Options, hop: str, ask_agent: AskAgent) -> None:
        self.link = link
        self.options = options
        self.hop = hop
        self.ask_agent = ask_agent
        self.methods_left: tuple[str, ...] | None = None
        self.tried: list[str] = []
        self.failures = 0
        self.offered: set[bytes] = set()
        self.verdict = ALL_REFUSED
        self.kind: type[AuthenticationError] = AuthenticationError
        self.unanswered = ""
        self.not_offered = 0

    # -- messages

    def request(self, method: str, extra: bytes = b"") -> bytes:
        return _head(self.options.username, method) + extra

    def reply(self) -> Op[Reader]:
        """The next message that is no banner; its type is still to be read."""
        while True:
            message = self.link.message()
            if message is None:
                if self.link.dead:
                    raise self.death()
                yield Progress(self.link)
            elif message[0] == BANNER:
                Reader(message, 1).text()  # nobody is shown it, but it must be one
            else:
                return Reader(message)

    def outcome(self, reader: Reader) -> _Outcome:
        """What a final answer means; keeps the methods that the server would still take."""
        kind = reader.byte()
        if kind == SUCCESS:
            return _Outcome.SUCCESS
        if kind != FAILURE:
            raise ProtocolError(f"unexpected message {kind} during authentication")
        self.methods_left = reader.name_list()
        if reader.boolean():
            self.verdict, self.kind = ONE_OF_MANY, AuthenticationError
            return _Outcome.PARTIAL
        self.failures += 1
        return _Outcome.FAILURE

    def death(self) -> Exception:
        state = self.link.look()
        # 2 (protocol error) and 14 (no more methods) are what servers give for too many attempts.
        if state.death is Death.PEER and state.code in (2, 14) and self.tried:
            ended = f"the server ended the authentication ({printable(state.text)})"
            return self.error(f"{self.verdict}; {ended}")
        return self.link.death()

    def error(self, text: str | None = None) -> AuthenticationError:
        methods = tuple(printable(method) for method in self.methods_left or ())
        verdict = text or self.verdict
        told = verdict.startswith(self.options.defaults_failed)  # in words of their own
        parts = [verdict if told else FAILED + verdict]
        if self.tried:
            parts.append(f"tried: {', '.join(self.tried)}")
        if self.not_offered:
            parts.append(
                f"{self.not_offered} more keys of the agent were not offered, "
                "because servers allow few attempts: private_key= names the one to use"
            )
        if methods:
            parts.append(f"the server accepts: {printable(', '.join(methods))}")
        if self.unanswered:
            asked = printable(self.unanswered, MOST_TOLD)
            parts.append(f"it asked {asked}, for which prompt= gave no answer")
        elif self.can_ask(methods) and self.options.password is None and not self.options.prompt:
            parts.append("password= or prompt= can answer")
        return self.kind("; ".join(parts), methods_left=methods, tried=tuple(self.tried))

    @staticmethod
    def can_ask(methods: tuple[str, ...]) -> bool:
        return not {"password", "keyboard-interactive"}.isdisjoint(methods)

    def takes(self, method: str) -> bool:
        """Whether the method is worth an attempt, as far as the server has said."""
        return self.methods_left is None or method in self.methods_left

    # -- methods

    def none(self) -> Op[_Outcome]:
        """RFC 4252 section 5.2: a server may let anybody in, or else says what it takes."""
        self.link.send(self.request("none"))
        return self.outcome((yield from self.reply()))

    def key(
        self, key: PrivateKey, name: str, choice: int = 0, certificate: PublicKey | None = None
    ) -> Op[_Outcome]:
        """RFC 4252 section 7, with the signature at once; in the certificate's name if given."""
        public = certificate or key.public
        algorithm = yield from self.algorithm(public, f"key {name}", choice)
        if algorithm is None:
            return _Outcome.FAILURE
        request = self.key_request(algorithm, public)
        signed = string(self.link.session_id) + request
        if key.is_quick:
            signature = key.sign(signed, plain(algorithm))
        else:
            sign = partial(key.sign, signed, plain(algorithm))
            signature = yield Blocking(lambda _: sign(), patient=True, in_caller=True)
        self.link.send(request + string(signature))
        return self.outcome((yield from self.reply()))

    def algorithm(self, public: PublicKey, name: str, choice: int) -> Op[str | None]:
        """What to sign with, best (0) or second best (1); None: there is nothing of that kind.

        Only RSA has two, and servers that list both may take one of them only: what
        OpenSSH lists is what it knows, whatever PubkeyAcceptedAlgorithms says.
        """
        takes = None
        if public.algorithm.startswith("ssh-rsa"):
            while self.link.phase < Phase.AUTH:
                if self.link.dead:
                    raise self.death()
                yield Progress(self.link)
            takes = self.link.signature_algorithms
        names = signature_algorithms(public.algorithm, takes)
        if choice == 0:
            self.offered.add(public.blob)
            lacks = "" if names else f", with which the server takes only {printable(str(takes))}"
            self.tried.append(f"{name} ({public.fingerprint}){lacks}")
        return names[choice] if choice < len(names) else None

    def key_request(self, algorithm: str, public: PublicKey, *, signed: bool = True) -> bytes:
        return _key_request(self.options.username, algorithm, public.blob, signed)

    def agent_key(self, path: str, public: PublicKey, choice: int = 0) -> Op[_Outcome]:
        """RFC 4252 section 7, asking first whether a signature is worth making."""
        name = f"agent key {printable(public.comment)}".rstrip()
        algorithm = yield from self.algorithm(public, name, choice)
        if algorithm is None:
            return _Outcome.FAILURE
        self.link.send(self.key_request(algorithm, public, signed=False))
        reader = yield from self.reply()
        kind = reader.rest[:1]
        if kind != bytes((PK_OK,)):
            return self.outcome(reader)
        request = self.key_request(algorithm, public)
        question = agent.sign_request(
            public.blob, string(self.link.session_id) + request, agent.sign_flags(algorithm)
        )
        touch = public.algorithm.startswith("sk-")
        asked = f"ssh-agent to sign with {name} ({public.fingerprint})"
        try:
            answer = yield self.ask_agent(path, question, f"[{self.hop}] asking {asked}", touch)
            signature = agent.parse_signature(answer, algorithm)
        except DeadlineExceeded as late:
            late.waiting = asked + (" and the user to touch the security key" if touch else "")
            raise
        except (OSError, AuthenticationError) as error:
            self.tried.append(f"ssh-agent ({printable(str(error))})")
            return _Outcome.FAILURE
        self.link.send(request + string(signature))
        return self.outcome((yield from self.reply()))

    def password(self, password: str) -> Op[_Outcome]:
        """RFC 4252 section 8."""
        self.tried.append("password")
        self.link.send(self.request("password", boolean(False) + string(password.encode())))
        reader = yield from self.reply()
        if reader.rest[:1] == bytes((PASSWORD_CHANGE,)):
            raise self.error("the password has expired and must be changed on the server")
        return self.outcome(reader)

    def interactive(self, password: str | None) -> Op[_Outcome]:
        """RFC 4256: the password answers the first hidden prompt, prompt= the rest."""
        self.tried.append("keyboard-interactive")
        self.link.send(self.request("keyboard-interactive", string(b"") + string(b"")))
        for _ in range(ROUNDS_MAX):
            reader = yield from self.reply()
            if reader.rest[:1] != bytes((INFO_REQUEST,)):
                return self.outcome(reader)
            reader.byte()
            name, instruction, _language = (printable(reader.text()) for _ in range(3))
            prompts = tuple(
                Prompt(printable(reader.text()), reader.boolean())
                for _ in range(min(reader.uint32(), 100))
            )
            answers: list[str]
            if not prompts:
                answers = []
            elif len(prompts) == 1 and not prompts[0].echo and password is not None:
                answers, password = [password], None
            elif self.options.prompt is not None:
                asked = PromptRequest(self.hop, name, instruction, prompts)
                ask = partial(_ask_user, self.options.prompt, asked)
                given = yield Blocking(ask, patient=True, in_caller=True)
                answers = _check_answers(asked, given)
            else:
                self.unanswered = ", ".join(repr(prompt.text) for prompt in prompts)
                return _Outcome.FAILURE
            encoded = b"".join(string(answer.encode()) for answer in answers)
            self.link.send(bytes((INFO_RESPONSE,)) + uint32(len(answers)) + encoded)
        raise self.error(f"the server asked more than {ROUNDS_MAX} times")


def _ask_user(
    callback: PromptCallback, asked: PromptRequest, _seconds_left: float | None
) -> object:
    return callback(asked)  # what comes of a coroutine function, the driver awaits


def _check_answers(asked: PromptRequest, given: Any) -> list[str]:
    answers = [] if isinstance(given, str) else list(given)  # a string is no list of its letters
    count = len(asked.prompts)
    if len(answers) != count or not all(is_secret(answer) for answer in answers):
        raise ValueError(f"prompt= must return {count} strings of plain text, one for each prompt")
    return answers


def authenticate(link: Link, options: Options, hop: str, ask_agent: AskAgent) -> Op[None]:
    """Log in, or raise AuthenticationError (KeyFileError and KeyRefused among its kinds)."""
    login = _Login(link, options, hop, ask_agent)
    if options.private_key:
        done = yield from _with_key(login)
    elif options.password is not None:
        done = yield from _with_password(login, options.password)
    else:
        login.verdict = options.defaults_failed
        done = yield from _with_defaults(login)
        if not done and options.prompt is not None:
            done = yield from _with_password(login, None)
    if not done:
        raise login.error()


def _load(link: Link, path: str | os.PathLike[str], passphrase: str | None) -> Op[Credential]:
    """A key file, shared with other logins that need it; may raise KeyFileError."""
    file = KeyFile.of(path, passphrase)
    link.kept = (*link.kept, file)
    credential = file.at_hand()
    if credential is None:
        at_hand = file.from_now_on()
        credential = yield Blocking(lambda _: file.load(), patient=True, turn=file, at_hand=at_hand)
    return credential


def _with_key(login: _Login) -> Op[bool]:
    options = login.options
    path, secret = str(options.private_key), options.password
    credential = yield from _load(login.link, path, secret)
    key, certificate = credential.key, credential.certificate
    login.verdict, login.kind = f"the server refused the key {path}", KeyRefused
    outcome = _Outcome.FAILURE
    if certificate is not None:
        outcome = yield from login.key(key, f"{path}-cert.pub", certificate=certificate)
    if outcome is _Outcome.FAILURE and login.takes("publickey"):
        outcome = yield from login.key(key, path)
    if outcome is _Outcome.FAILURE and login.takes("publickey"):
        outcome = yield from login.key(key, path, choice=1)
    if outcome is _Outcome.SUCCESS:
        return True
    asks_user = options.prompt is not None and login.takes("keyboard-interactive")
    if credential.was_encrypted and (outcome is not _Outcome.PARTIAL or asks_user):
        # It goes to the server only where that took the key, wants a second factor, and
        # there is nobody else to ask.
        secret = None
    if secret is not None or options.prompt is not None:
        done = yield from _with_password(login, secret)
        if done:
            return True
    if outcome is _Outcome.PARTIAL:
        return (yield from _with_defaults(login))
    return False


def _with_password(login: _Login, password: str | None) -> Op[bool]:
    refused = False
    if password is not None and login.takes("password"):
        outcome = yield from login.password(password)
        if outcome is _Outcome.SUCCESS:
            return True
        refused = outcome is _Outcome.FAILURE and login.takes("password")
    if login.takes("keyboard-interactive") and not (refused and login.options.prompt is None):
        # A password that was refused as such is not sent again under another name.
        outcome = yield from login.interactive(None if refused else password)
        if outcome is _Outcome.SUCCESS:
            return True
        if outcome is _Outcome.PARTIAL and password is not None and login.takes("password"):
            outcome = yield from login.password(password)
            return outcome is _Outcome.SUCCESS
    return False


def _with_defaults(login: _Login) -> Op[bool]:
    """The agent's keys, then the default files; `False` when nothing was accepted."""
    again: list[Callable[[], Op[_Outcome]]] = []
    path = agent.socket_path(login.options.agent, os.environ)
    if path and login.takes("publickey"):
        try:
            answer = yield login.ask_agent(
                path, agent.request_identities(), f"[{login.hop}] asking ssh-agent to list its keys"
            )
            identities = agent.filter_identities(agent.parse_identities(answer))
            login.not_offered = len(identities)
        except DeadlineExceeded as late:
            late.waiting = "ssh-agent to list its keys"
            raise
        except (OSError, AuthenticationError) as error:
            login.tried.append(f"ssh-agent ({printable(str(error))})")
            identities = []
        for public in identities:
            if login.failures >= ATTEMPTS_MAX or not login.takes("publickey"):
                break
            login.not_offered -= 1
            if public.blob in login.offered:
                continue
            outcome = yield from login.agent_key(path, public)
            if outcome is _Outcome.SUCCESS:
                return True
            again.append(partial(login.agent_key, path, public, 1))
    if not login.takes("publickey"):
        files = []
    else:
        files = yield Blocking(lambda _: _existing_defaults())
    for file in files:
        if not login.takes("publickey"):
            break
        try:
            credential = yield from _load(login.link, file, None)
        except KeyFileError as error:
            login.tried.append(f"key {file} ({type(error).__name__})")
            continue
        key, certificate = credential.key, credential.certificate
        if certificate is not None and certificate.blob not in login.offered:
            name = f"{file}-cert.pub"
            outcome = yield from login.key(key, name, certificate=certificate)
            if outcome is _Outcome.SUCCESS:
                return True
        if key.public.blob in login.offered or not login.takes("publickey"):
            continue
        outcome = yield from login.key(key, str(file))
        if outcome is _Outcome.SUCCESS:
            return True
        again.append(partial(login.key, key, str(file), 1))
    for attempt in again:
        if login.failures >= ATTEMPTS_MAX or not login.takes("publickey"):
            break
        outcome = yield from attempt()
        if outcome is _Outcome.SUCCESS:
            return True
    if login.methods_left is None:
        outcome = yield from login.none()
        return outcome is _Outcome.SUCCESS
    return False


def _existing_defaults() -> list[os.PathLike[str]]:
    """The default key files that there are; touches the file system."""
    found: list[os.PathLike[str]] = []
    for path in default_key_paths(os.path.expanduser("~")):
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            pass  # such as a home of another user: whoever reads it says that it cannot be
        found.append(path)
    return found
