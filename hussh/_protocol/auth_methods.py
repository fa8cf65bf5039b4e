"""One login, message by message: what each method of RFC 4252 and 4256 sends and receives.

`auth` decides which methods are tried, and in which order. A private key of a file is offered
together with its signature. Keys of the agent are first offered without one, because signing there
may need a touch. `Login` remembers what was tried and what the server answered last, and makes the
error of it. It decides nothing else, and reads no file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import partial

from .._native.constants import Death
from .._native.link import Link
from .._policy.keys.certificates import get_plain_algorithm
from .._policy.keys.private_key import PrivateKey
from .._policy.keys.public_key import PublicKey, count_rsa_bits
from .._policy.keys.signature_algorithms import choose_signature_algorithms
from .._policy.options import Options
from .._policy.server_memory import ServerMemory
from .._policy.wire import Reader, boolean, string
from ..errors import (
    AuthenticationError,
    Phase,
    ProtocolError,
    printable,
)
from . import agent
from .auth_messages import (
    FAILURE,
    PASSWORD_CHANGE,
    PK_OK,
    SUCCESS,
    AskAgent,
    Outcome,
    make_key_request,
    request_head,
)
from .auth_queries import AHEAD_MAX
from .core import DeadlineExceeded, Op, RunBlocking, WaitFor
from .early_open import EarlyOpen
from .login_banner import BANNER, LoginBanners
from .story import HopStory

__all__ = ["NOT_ASKED", "Login"]

#: Characters in an error of the questions that a server asked.
QUESTIONS_TEXT_MAX = 1000
# These words are in the error of 0.3.3, and its users look for them.
FAILED = "Authentication failed: "
ALL_REFUSED = "the server refused every credential that was given"
ONE_OF_MANY = "the server took a first credential and wants another, which it did not get"
NOT_ASKED = (
    "without private_key= and password= the server would be asked first to let you in with none"
)
NOTHING_TO_TRY = "there was no key to try"


_BEFORE_SERVICE = (Phase.BANNER, Phase.KEX, Phase.HOSTKEY)


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
        self._ahead = self.early.queries
        self.banners = LoginBanners(hop, options.settings["on_banner"])
        self._story = story
        self._trying = ""
        self._requests_left = 0  # that the present credential may need after a refusal
        self._factors = 0

    # -- messages

    def request(self, method: str, extra: bytes = b"") -> bytes:
        return request_head(self.options.username, method) + extra

    def read_reply(self) -> Op[Reader]:
        """Read the answer to the last request; its type is still to be read from the result.

        If a request before it was answered by SUCCESS, that is also the answer to this one, because
        no other will come.
        """
        if self.none_pending:
            answer = yield from self._read_next()
            if self._judge_none(answer):
                return Reader(answer)
        while self._ahead.waiting:
            answer = self._ahead.keep_answer((yield from self._read_next()))
            if answer[0] == SUCCESS:
                return Reader(answer)
        return Reader((yield from self._read_next()))

    def _read_next(self) -> Op[bytes]:
        """Return the next message that is no banner."""
        while True:
            message = self.link.take_message()
            if message is None:
                if self.link.dead:
                    raise self.make_death_error()
                yield WaitFor(self.link)
            elif message[0] == BANNER:
                yield from self.banners.hear(message)
            else:
                return message

    def judge_outcome(self, reader: Reader, *, counts: bool = True, name: str = "") -> Outcome:
        """Judge a final answer; keep the methods that the server would still take.

        Args:
            counts: whether a refusal is one of the few that servers allow.
            name: what was tried; "" means what was begun last.
        """
        found = self._read_outcome(reader, counts)
        if self._story is not None:
            self._story.note_attempt(name or self._trying, found.value)
            if found is not Outcome.SUCCESS:
                self._story.note_offered(self.methods_left or ())
        return found

    def _read_outcome(self, reader: Reader, counts: bool) -> Outcome:
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

    def note_not_tried(self, name: str, why: str) -> None:
        """Note a credential that the server was not asked about."""
        self.tried.append(f"{name} ({why})")
        if self._story is not None:
            self._story.note_attempt(name, f"not offered: {why}")

    def write_log(self) -> Op[None]:
        """Hand what happened to the log."""
        if self._story is not None:
            self._story.login_banner = self.banners.last
            yield from self._story.write_log()

    def make_death_error(self) -> Exception:
        state = self.link.get_info()
        if self.early.was_refused_early():
            return self.make_error()
        # Servers give 2 (protocol error) and 14 (no more methods) for too many attempts.
        if state.death is Death.PEER and state.code in (2, 14) and self.tried:
            ended = f"the server ended the authentication ({printable(state.text)})"
            return self.make_error(f"{self.verdict}; {ended}")
        return self.link.get_death()

    def make_error(self, text: str | None = None) -> AuthenticationError:
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
            asked = printable(self.unanswered, QUESTIONS_TEXT_MAX)
            parts.append(f"it asked {asked}, for which prompt= gave no answer")
        elif (
            self.can_ask(methods)
            and self.options.password is None
            and not self.options.settings["prompt"]
        ):
            parts.append("password= or prompt= can answer")
        parts += [words for words in (self.hint, self.banners.describe()) if words]
        return self.kind(
            "; ".join(parts),
            methods_left=methods,
            tried=tuple(self.tried),
            banner=self.banners.last,
        )

    @staticmethod
    def can_ask(methods: tuple[str, ...]) -> bool:
        return not {"password", "keyboard-interactive"}.isdisjoint(methods)

    def may_take(self, method: str) -> bool:
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
        if "keyboard-interactive" not in order or not self.may_take("keyboard-interactive"):
            return False
        return "password" not in order or order.index("keyboard-interactive") < order.index(
            "password"
        )

    def note_not_answered(self) -> None:
        """Note that the server asked what nobody answers."""
        if self._story is not None:
            self._story.note_attempt(self._trying, "not answered: there is no prompt=")

    # -- methods

    def ask(self, path: str, request: bytes, what: str, touch: bool = False) -> RunBlocking:
        """Return the call that asks the agent, which is first told for which server."""
        link = self.link
        signature = link.hostkey_signature
        bind = b""
        if signature:
            bind = agent.make_bind_request(
                link.hostkey, link.session_id, signature, is_forwarding=False
            )
        return self.ask_agent(path, request, f"[{self.hop}] {what}", touch, bind)

    def try_none(self) -> Op[bool]:
        """Try ``none`` (RFC 4252 section 5.2): a server may let anybody in, or says what it takes.

        Returns whether the server is known to let us in. Only OpenSSH's answer is not waited for.
        Servers that let people in by ``none`` (those made with Go's library) take a request after
        that for a breach of the protocol. Nor may a request be on the way when compression begins,
        which is with the SUCCESS. OpenSSH does not count a first ``none`` among the attempts.
        """
        self.link.send(self.request("none"))
        self.none_pending = True
        if self.link.is_openssh and not self.options.algorithms.compression:
            return False
        return (yield from self.read_none_answer())

    def read_none_answer(self) -> Op[bool]:
        """Return whether the server let us in by ``none``, after reading its answer if need be."""
        if not self.none_pending:
            return False
        return self._judge_none((yield from self._read_next()))

    def _judge_none(self, answer: bytes) -> bool:
        self.none_pending = False
        success = self.judge_outcome(Reader(answer), counts=False, name="none") is Outcome.SUCCESS
        if success:  # whatever else is on the way
            self.tried.append("none")
        return success

    def try_key(
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
        algorithm = yield from self.choose_algorithm(public, f"key {name}", choice)
        if algorithm is None:
            return Outcome.FAILURE
        request = self.make_key_request(algorithm, public)
        signed = string(self.link.session_id) + request
        if key.is_quick:
            signature = key.sign(signed, get_plain_algorithm(algorithm))
        else:
            sign = partial(key.sign, signed, get_plain_algorithm(algorithm))
            signature = yield RunBlocking(lambda _: sign(), detachable=True, in_caller=True)
        self.link.send(request + string(signature))
        if is_last and not self.none_pending:
            no_more = not self._requests_left
            self.early.send(self.link, "publickey", no_more_requests=no_more)
        return (yield from self.wait_final("publickey"))

    def wait_final(self, method: str) -> Op[Outcome]:
        """Wait for the final answer to a request, and remember a method that was enough alone."""
        return self._judge(method, (yield from self.read_reply()))

    def _judge(self, method: str, reader: Reader) -> Outcome:
        outcome = self.judge_outcome(reader)
        if outcome is Outcome.SUCCESS and not self._factors:
            self.early.memory.logins.add((self.options.username, method))
        return outcome

    def choose_algorithm(self, public: PublicKey, name: str, choice: int) -> Op[str | None]:
        """Return what to sign with, best (0) or second best (1); None if there is none.

        Only RSA has two, and servers that list both may take one of them only: OpenSSH lists all
        that it knows, whatever PubkeyAcceptedAlgorithms says.
        """
        if self._is_small(public):
            if choice == 0:
                least = self.options.configured_rsa_size
                self.note_not_tried(
                    name, f"{count_rsa_bits(public.blob)} bits, RequiredRSASize is {least}"
                )
            return None
        while (names := self._find_algorithms(public)) is None:
            if self.link.dead:
                raise self.make_death_error()
            yield WaitFor(self.link)
        takes = self.link.signature_algorithms
        self._requests_left = len(names) - choice - 1
        self._trying = f"{name} ({public.fingerprint})"
        if choice == 0:
            self.offered.add(public.blob)
            lacks = "" if names else f", with which the server takes only {printable(str(takes))}"
            self.tried.append(f"{name} ({public.fingerprint}){lacks}")
        return names[choice] if choice < len(names) else None

    def _is_small(self, public: PublicKey) -> bool:
        bits = count_rsa_bits(public.blob)
        return bits is not None and bits < self.options.configured_rsa_size

    def _find_algorithms(self, public: PublicKey) -> tuple[str, ...] | None:
        """Return what a key may sign with, best first; None as long as that is not known.

        An RSA key depends on the server's list (RFC 8308), which comes right after the key exchange
        or never: a server without one has answered our request for the service by then.
        """
        is_rsa = public.algorithm.startswith("ssh-rsa")
        takes = self.link.signature_algorithms if is_rsa else None
        if is_rsa and takes is None and self.link.phase in _BEFORE_SERVICE:
            return None
        if self._is_small(public):
            return ()
        names = choose_signature_algorithms(public.algorithm, takes)
        wanted = self.options.configured.signature_algorithms
        return names if wanted is None else tuple([one for one in names if one in wanted])

    def make_key_request(self, algorithm: str, public: PublicKey, *, signed: bool = True) -> bytes:
        return make_key_request(self.options.username, algorithm, public.blob, signed)

    def ask_ahead(self, keys: Iterable[PublicKey]) -> None:
        """Ask about the first keys of the agent at once, where the server bears it."""
        if self._ahead.may_ask(self.link, self.options, self.early.memory):
            for public in itertools.islice(keys, AHEAD_MAX):
                names = self._find_algorithms(public)
                if names is None:
                    break  # it has to wait, and so have those after it
                if names:
                    self._ahead.waiting.append((names[0], public.blob))
                    self.link.send(self.make_key_request(names[0], public, signed=False))

    def _ask_about(self, algorithm: str, public: PublicKey) -> Op[Reader]:
        """Ask whether the server takes a key, unless that was asked ahead; return the answer."""
        query = algorithm, public.blob
        if not self._ahead.has(query):
            self.link.send(self.make_key_request(algorithm, public, signed=False))
            return (yield from self.read_reply())
        if self.none_pending:
            answer = yield from self._read_next()
            if self._judge_none(answer):
                return Reader(answer)
        while query in self._ahead.waiting:
            answer = self._ahead.keep_answer((yield from self._read_next()))
            if answer[0] == SUCCESS:
                return Reader(answer)
        return self._ahead.take(query)

    def try_agent_key(
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
            choice: see `choose_algorithm`.
            certificate: of the key, to offer in its place.
        """
        public = certificate or held
        name = f"agent key {printable(held.comment)}".rstrip()
        if certificate is not None:
            name += " with certificate="
        algorithm = yield from self.choose_algorithm(public, name, choice)
        if algorithm is None:
            return Outcome.FAILURE
        reader = yield from self._ask_about(algorithm, public)
        kind = reader.rest[:1]
        if kind != bytes((PK_OK,)):
            return self.judge_outcome(reader)
        request = self.make_key_request(algorithm, public)
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
            self.note_not_tried("ssh-agent", printable(str(error)))
            return Outcome.FAILURE
        self.link.send(request + string(signature))
        outcome = self.judge_outcome((yield from self.read_reply()))
        if outcome is not Outcome.SUCCESS:
            self._ahead.has_one_that_would_do = False  # it did not
        return outcome

    def try_password(self, password: str, *, is_last: bool = False) -> Op[Outcome]:
        """Try the password (RFC 4252 section 8); `is_last`: no other credential is left."""
        self.begin("password")
        self.link.send(self.request("password", boolean(False) + string(password.encode())))
        if is_last and not self.none_pending:
            self.early.send(self.link, "password", no_more_requests=True)
        reader = yield from self.read_reply()
        if reader.rest[:1] == bytes((PASSWORD_CHANGE,)):
            self.hint = ""
            raise self.make_error("the password has expired and must be changed on the server")
        return self._judge("password", reader)
