"""One login, message by message: what each method of RFC 4252 and 4256 sends and receives.

`auth` decides which methods are tried, and in which order. A private key of a file is offered
together with its signature. Keys of the agent are first offered without one, because signing there
may need a touch. `Login` remembers what was tried and what the server answered last, and makes the
error of it.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache, partial
from typing import Any, Protocol

from .._native.constants import Death
from .._native.link import Link
from .._policy.keys.certificates import plain
from .._policy.keys.private_key import PrivateKey
from .._policy.keys.public_key import PublicKey, rsa_bits
from .._policy.keys.signature_algorithms import signature_algorithms
from .._policy.options import Options, is_secret
from .._policy.prompts import Prompt, PromptCallback, PromptRequest
from .._policy.server_memory import ServerMemory
from .._policy.wire import Reader, boolean, string, uint32
from ..errors import (
    AuthenticationError,
    Phase,
    ProtocolError,
    printable,
)
from . import agent
from .core import DeadlineExceeded, Op, RunBlocking, WaitFor
from .early_open import EarlyOpen
from .login_banner import BANNER, LoginBanners
from .story import HopStory

__all__ = ["NOT_ASKED", "AskAgent", "Login", "Outcome"]

REQUEST, FAILURE, SUCCESS = 50, 51, 52
INFO_REQUEST = PK_OK = PASSWORD_CHANGE = 60  # what 60 means depends on the method
INFO_RESPONSE = 61
ROUNDS_MAX = 20
#: Characters in an error of the questions that a server asked.
MOST_TOLD = 1000
# These words are in the error of 0.3.3, and its users look for them.
FAILED = "Authentication failed: "
ALL_REFUSED = "the server refused every credential that was given"
ONE_OF_MANY = "the server took a first credential and wants another, which it did not get"
NOT_ASKED = (
    "without private_key= and password= the server would be asked first to let you in with none"
)
NOTHING_TO_TRY = "there was no key to try"
#: After it let somebody in by ``none``, it takes no offence at a request that came too late.
PATIENT_SERVER = "SSH-2.0-OpenSSH_"


class AskAgent(Protocol):
    """Makes the call that sends one framed request to the agent at a socket path.

    Its result is the framed answer. `note` says in the log what is asked. `touch` says whether the
    agent may have to wait for a touch.
    `bind` is a request that is sent before, whatever the agent says to it (`agent.bind_request`).
    """

    def __call__(
        self, path: str, request: bytes, note: str, touch: bool = False, bind: bytes = b""
    ) -> RunBlocking: ...


class Outcome(Enum):
    SUCCESS = "success"
    PARTIAL = "accepted, but the server wants more"
    FAILURE = "refused"


#: The words of a story for the result of an attempt.
RESULTS = {
    Outcome.SUCCESS: "accepted",
    Outcome.PARTIAL: "accepted, but the server wants more",
    Outcome.FAILURE: "refused",
}


@lru_cache(maxsize=64)
def _head(username: str, method: str) -> bytes:
    """Return the beginning of a request (RFC 4252 section 5)."""
    names = (username, "ssh-connection", method)
    return bytes((REQUEST,)) + b"".join([string(name.encode()) for name in names])


@lru_cache(maxsize=64)
def _key_request(username: str, algorithm: str, blob: bytes, signed: bool) -> bytes:
    """Return a request with a key, up to the signature (RFC 4252 section 7)."""
    fields = boolean(signed) + string(algorithm.encode()) + string(blob)
    return _head(username, "publickey") + fields


class Login:
    """One authentication: what was tried, and what the server answered last.

    Attributes:
        verdict, kind: text and class of the error, if the login fails now.
        unanswered: the prompts for which there was no answer.
        not_offered: how many keys of the agent were left out.
        hint: what the user could do instead; the error ends with it.
        certificate: what ``certificate=`` names, if it does.
        none_pending: whether ``none`` was sent and its answer is still to be read.
    """

    def __init__(
        self,
        link: Link,
        options: Options,
        hop: str,
        ask_agent: AskAgent,
        story: HopStory | None = None,
        early: EarlyOpen | None = None,
    ) -> None:
        self.link = link
        self.early = early or EarlyOpen(options, ServerMemory())
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
        self.hint = ""
        self.certificate: PublicKey | None = None
        self.none_pending = False
        self.banners = LoginBanners(hop, options.settings["on_banner"])
        self._story = story
        self._trying = ""
        self._requests_left = 0  # that the present credential may need after a refusal
        self._factors = 0

    # -- messages

    def request(self, method: str, extra: bytes = b"") -> bytes:
        return _head(self.options.username, method) + extra

    def reply(self) -> Op[Reader]:
        """Read the answer to the last request; its type is still to be read from the result.

        If ``none`` was answered by SUCCESS, that is also the answer to the request after it,
        because no other will come.
        """
        if self.none_pending:
            answer = yield from self._next()
            if self._judge_none(answer):
                return Reader(answer)
        return Reader((yield from self._next()))

    def _next(self) -> Op[bytes]:
        """Return the next message that is no banner."""
        while True:
            message = self.link.message()
            if message is None:
                if self.link.dead:
                    raise self.death()
                yield WaitFor(self.link)
            elif message[0] == BANNER:
                yield from self.banners.hear(message)
            else:
                return message

    def outcome(self, reader: Reader, *, counts: bool = True, name: str = "") -> Outcome:
        """Judge a final answer; keep the methods that the server would still take.

        Args:
            counts: whether a refusal is one of the few that servers allow.
            name: what was tried; "" means what was begun last.
        """
        found = self._outcome(reader, counts)
        if self._story is not None:
            self._story.attempt(name or self._trying, RESULTS[found])
            if found is not Outcome.SUCCESS:
                self._story.offered(self.methods_left or ())
        return found

    def _outcome(self, reader: Reader, counts: bool) -> Outcome:
        kind = reader.byte()
        if kind == SUCCESS:
            return Outcome.SUCCESS
        if kind != FAILURE:
            raise ProtocolError(f"unexpected message {kind} during authentication")
        self.early.refused = True
        self.methods_left = reader.name_list()
        if reader.boolean():
            self._factors += 1
            self.verdict, self.kind, self.hint = ONE_OF_MANY, AuthenticationError, ""
            return Outcome.PARTIAL
        self.failures += counts
        return Outcome.FAILURE

    def begin(self, name: str) -> None:
        """Note a credential that the server is asked about next."""
        self.tried.append(name)
        self._trying = name

    def not_tried(self, name: str, why: str) -> None:
        """Note a credential that the server was not asked about."""
        self.tried.append(f"{name} ({why})")
        if self._story is not None:
            self._story.attempt(name, f"not offered: {why}")

    def write_log(self) -> Op[None]:
        """Hand what happened to the log."""
        if self._story is not None:
            self._story.login_banner = self.banners.last
            yield from self._story.write_log()

    def death(self) -> Exception:
        state = self.link.get_info()
        if self.early.was_refused_early():
            return self.error()
        # Servers give 2 (protocol error) and 14 (no more methods) for too many attempts.
        if state.death is Death.PEER and state.code in (2, 14) and self.tried:
            ended = f"the server ended the authentication ({printable(state.text)})"
            return self.error(f"{self.verdict}; {ended}")
        return self.link.death()

    def error(self, text: str | None = None) -> AuthenticationError:
        methods = tuple(printable(method) for method in self.methods_left or ())
        verdict = text or self.verdict
        is_worded = verdict.startswith(self.options.defaults_failed)  # in words of their own
        parts = [verdict if is_worded else FAILED + verdict]
        if self.tried:
            parts.append(f"tried: {', '.join(self.tried)}")
        elif is_worded:
            parts.append(NOTHING_TO_TRY)
        if self.not_offered:
            parts.append(
                f"{self.not_offered} more keys of the agent were not offered, "
                "because servers allow few attempts: private_key= names the one to use"
            )
        permitted = self.options.configured.methods
        if permitted is not None:
            parts.append(f"the ssh configuration permits: {', '.join(permitted) or 'nothing'}")
        if methods:
            parts.append(f"the server accepts: {printable(', '.join(methods))}")
        if self.unanswered:
            asked = printable(self.unanswered, MOST_TOLD)
            parts.append(f"it asked {asked}, for which prompt= gave no answer")
        elif (
            self.can_ask(methods)
            and self.options.password is None
            and not self.options.settings["prompt"]
        ):
            parts.append("password= or prompt= can answer")
        parts += [words for words in (self.hint, self.banners.words()) if words]
        return self.kind(
            "; ".join(parts),
            methods_left=methods,
            tried=tuple(self.tried),
            banner=self.banners.last,
        )

    @staticmethod
    def can_ask(methods: tuple[str, ...]) -> bool:
        return not {"password", "keyboard-interactive"}.isdisjoint(methods)

    def takes(self, method: str) -> bool:
        """Tell whether the method is worth an attempt, as far as the server has said."""
        return self._is_permitted(method) and (
            self.methods_left is None or method in self.methods_left
        )

    def _is_permitted(self, method: str) -> bool:
        """Tell what the ssh configuration permits; a credential of the caller's wins over it."""
        methods = self.options.configured.methods
        if methods is None or method in methods:
            return True
        if method == "publickey":
            return bool(self.options.keys)
        if method == "gssapi-with-mic":
            return self.options.gives_ticket
        return self.options.password is not None

    def prefers_questions(self) -> bool:
        """Tell whether the ssh configuration wants keyboard-interactive before the password."""
        order = self.options.configured.methods or ()
        if "keyboard-interactive" not in order or not self.takes("keyboard-interactive"):
            return False
        return "password" not in order or order.index("keyboard-interactive") < order.index(
            "password"
        )

    # -- methods

    def ask(self, path: str, request: bytes, what: str, touch: bool = False) -> RunBlocking:
        """Return the call that asks the agent, which is first told for which server."""
        link = self.link
        signature = link.hostkey_signature
        bind = b""
        if signature:
            bind = agent.bind_request(link.hostkey, link.session_id, signature, is_forwarding=False)
        return self.ask_agent(path, request, f"[{self.hop}] {what}", touch, bind)

    def none_first(self) -> Op[bool]:
        """Try ``none`` (RFC 4252 section 5.2): a server may let anybody in, or says what it takes.

        Returns whether the server is known to let us in. Only OpenSSH's answer is not waited for.
        Servers that let people in by ``none`` (those made with Go's library) take a request after
        that for a breach of the protocol. Nor may a request be on the way when compression begins,
        which is with the SUCCESS. OpenSSH does not count a first ``none`` among the attempts.
        """
        self.link.send(self.request("none"))
        self.none_pending = True
        patient = (self.link.banner or "").startswith(PATIENT_SERVER)
        if patient and not self.options.algorithms.compression:
            return False
        return (yield from self.none_answer())

    def none_answer(self) -> Op[bool]:
        """Return whether the server let us in by ``none``, after reading its answer if need be."""
        if not self.none_pending:
            return False
        return self._judge_none((yield from self._next()))

    def _judge_none(self, answer: bytes) -> bool:
        self.none_pending = False
        success = self.outcome(Reader(answer), counts=False, name="none") is Outcome.SUCCESS
        if success:  # whatever else is on the way
            self.tried.append("none")
        return success

    def key(
        self,
        key: PrivateKey,
        name: str,
        choice: int = 0,
        certificate: PublicKey | None = None,
        *,
        is_last: bool = False,
    ) -> Op[Outcome]:
        """Try a key with its signature at once (RFC 4252 section 7), or its certificate.

        `is_last`: no other credential is left.
        """
        public = certificate or key.public
        algorithm = yield from self.algorithm(public, f"key {name}", choice)
        if algorithm is None:
            return Outcome.FAILURE
        request = self.key_request(algorithm, public)
        signed = string(self.link.session_id) + request
        if key.is_quick:
            signature = key.sign(signed, plain(algorithm))
        else:
            sign = partial(key.sign, signed, plain(algorithm))
            signature = yield RunBlocking(lambda _: sign(), detachable=True, in_caller=True)
        self.link.send(request + string(signature))
        if is_last and not self.none_pending:
            no_more = not self._requests_left
            self.early.send(self.link, "publickey", no_more_requests=no_more)
        return (yield from self.final("publickey"))

    def final(self, method: str) -> Op[Outcome]:
        """Wait for the final answer to a request, and remember a method that was enough alone."""
        return self._judged(method, (yield from self.reply()))

    def _judged(self, method: str, reader: Reader) -> Outcome:
        outcome = self.outcome(reader)
        if outcome is Outcome.SUCCESS and not self._factors:
            self.early.memory.logins.add((self.options.username, method))
        return outcome

    def algorithm(self, public: PublicKey, name: str, choice: int) -> Op[str | None]:
        """Return what to sign with, best (0) or second best (1); None if there is none.

        Only RSA has two, and servers that list both may take one of them only: OpenSSH lists all
        that it knows, whatever PubkeyAcceptedAlgorithms says.
        """
        takes = None
        if public.algorithm.startswith("ssh-rsa"):
            least, bits = self.options.configured_rsa_size, rsa_bits(public.blob) or 0
            if bits < least:
                if choice == 0:
                    self.not_tried(name, f"{bits} bits, and RequiredRSASize is {least}")
                return None
            while self.link.phase in (Phase.BANNER, Phase.KEX, Phase.HOSTKEY):
                if self.link.dead:
                    raise self.death()
                yield WaitFor(self.link)
            takes = self.link.signature_algorithms
        names = signature_algorithms(public.algorithm, takes)
        wanted = self.options.configured.signature_algorithms
        if wanted is not None:
            names = tuple([one for one in names if one in wanted])
        self._requests_left = len(names) - choice - 1
        self._trying = f"{name} ({public.fingerprint})"
        if choice == 0:
            self.offered.add(public.blob)
            lacks = "" if names else f", with which the server takes only {printable(str(takes))}"
            self.tried.append(f"{name} ({public.fingerprint}){lacks}")
        return names[choice] if choice < len(names) else None

    def key_request(self, algorithm: str, public: PublicKey, *, signed: bool = True) -> bytes:
        return _key_request(self.options.username, algorithm, public.blob, signed)

    def agent_key(
        self,
        path: str,
        held: PublicKey,
        choice: int = 0,
        certificate: PublicKey | None = None,
    ) -> Op[Outcome]:
        """Try a key of the agent (RFC 4252 section 7), after asking whether the server takes it.

        Args:
            path: the agent's socket.
            held: the key that the agent has.
            choice: see `algorithm`.
            certificate: of the key, to offer in its place.
        """
        public = certificate or held
        name = f"agent key {printable(held.comment)}".rstrip()
        if certificate is not None:
            name += " with certificate="
        algorithm = yield from self.algorithm(public, name, choice)
        if algorithm is None:
            return Outcome.FAILURE
        self.link.send(self.key_request(algorithm, public, signed=False))
        reader = yield from self.reply()
        kind = reader.rest[:1]
        if kind != bytes((PK_OK,)):
            return self.outcome(reader)
        request = self.key_request(algorithm, public)
        question = agent.sign_request(
            held.blob, string(self.link.session_id) + request, agent.sign_flags(algorithm)
        )
        touch = public.algorithm.startswith("sk-")
        self.early.asked_user |= touch
        asked = f"ssh-agent to sign with {name} ({public.fingerprint})"
        try:
            answer = yield self.ask(path, question, f"asking {asked}", touch)
            signature = agent.parse_signature(answer, algorithm)
        except DeadlineExceeded as timeout_error:
            timeout_error.waiting = asked + (
                " and the user to touch the security key" if touch else ""
            )
            raise
        except (OSError, AuthenticationError) as error:
            self.not_tried("ssh-agent", printable(str(error)))
            return Outcome.FAILURE
        self.link.send(request + string(signature))
        return self.outcome((yield from self.reply()))

    def password(self, password: str, *, is_last: bool = False) -> Op[Outcome]:
        """Try the password (RFC 4252 section 8); `is_last`: no other credential is left."""
        self.begin("password")
        self.link.send(self.request("password", boolean(False) + string(password.encode())))
        if is_last and not self.none_pending:
            self.early.send(self.link, "password", no_more_requests=True)
        reader = yield from self.reply()
        if reader.rest[:1] == bytes((PASSWORD_CHANGE,)):
            self.hint = ""
            raise self.error("the password has expired and must be changed on the server")
        return self._judged("password", reader)

    def interactive(self, password: str | None) -> Op[Outcome]:
        """Answer the server's questions (RFC 4256).

        The password answers the first hidden prompt, prompt= answers the others.
        """
        self.begin("keyboard-interactive")
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
            elif self.options.settings["prompt"] is not None:
                self.early.asked_user = True
                asked = PromptRequest(self.hop, name, instruction, prompts)
                ask = partial(_ask_user, self.options.settings["prompt"], asked)
                given = yield RunBlocking(ask, detachable=True, in_caller=True)
                answers = _check_answers(asked, given)
            else:
                self.unanswered = ", ".join(repr(prompt.text) for prompt in prompts)
                if self._story is not None:
                    self._story.attempt(self._trying, "not answered: there is no prompt=")
                return Outcome.FAILURE
            encoded = b"".join(string(answer.encode()) for answer in answers)
            self.link.send(bytes((INFO_RESPONSE,)) + uint32(len(answers)) + encoded)
        raise self.error(f"the server asked more than {ROUNDS_MAX} times")


def _ask_user(
    callback: PromptCallback, asked: PromptRequest, _seconds_left: float | None
) -> object:
    return callback(asked)  # the driver awaits the result of a coroutine function


def _check_answers(asked: PromptRequest, given: Any) -> list[str]:
    answers = [] if isinstance(given, str) else list(given)  # a string is no list of its letters
    count = len(asked.prompts)
    if len(answers) != count or not all(is_secret(answer) for answer in answers):
        raise ValueError(f"prompt= must return {count} strings of plain text, one for each prompt")
    return answers
