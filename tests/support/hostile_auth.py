"""User authentication of the hostile server: scripted verdicts, every request recorded.

`hostile_channels` builds on it; tests pass the factors to `Conn.authenticate`.
A factor judges the requests of one method.  Nothing is accepted unless a factor
says so, and nothing is ever hidden from the test: `auth_log` holds passwords.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from . import hostile_wire as wire
from .hostile_crypto import verify
from .hostile_transport import Transport
from .hostile_wire import ClientGone, Fields, Msg, PeerError, boolean, names, string, u32


@dataclass
class AuthRequest:
    """One USERAUTH_REQUEST; the fields of other methods stay empty."""

    user: str
    service: str
    method: str
    password: str = ""
    new_password: str = ""
    algorithm: str = ""
    blob: bytes = b""
    signature: bytes = b""
    signed: bytes = b""
    answers: list[list[str]] = field(default_factory=list)


class Factor:
    """Judges requests of `method`; True accepts, False refuses, None: already answered."""

    method = ""

    def judge(self, conn: AuthTransport, request: AuthRequest) -> bool | None:
        raise NotImplementedError


class NoneAuth(Factor):
    method = "none"

    def judge(self, conn: AuthTransport, request: AuthRequest) -> bool | None:
        return True


class Password(Factor):
    """Accepts this password; with `change_to`, first demands that it be changed."""

    method = "password"

    def __init__(self, password: str, *, change_to: str | None = None) -> None:
        self.password, self.change_to = password, change_to

    def judge(self, conn: AuthTransport, request: AuthRequest) -> bool | None:
        if request.password != self.password:
            return False
        if self.change_to is None or request.new_password == self.change_to:
            return True
        conn.send(Msg.USERAUTH_PK_OK, string("Password expired"), string(b""))
        return None


class PublicKey(Factor):
    """Accepts these key blobs (None: any), checking the signature unless told not to."""

    method = "publickey"

    def __init__(self, blobs: Collection[bytes] | None = None, *, check: bool = True) -> None:
        self.blobs, self.check = blobs, check

    def judge(self, conn: AuthTransport, request: AuthRequest) -> bool | None:
        if self.blobs is not None and request.blob not in self.blobs:
            return False
        if not request.signature:
            conn.send(Msg.USERAUTH_PK_OK, string(request.algorithm), string(request.blob))
            return None
        if self.check and (why := verify(request.blob, request.signature, request.signed)):
            raise PeerError(why)
        return True


@dataclass
class Round:
    """One INFO_REQUEST: texts, and prompts as (text, echo); no prompts is legal."""

    prompts: Sequence[tuple[str, bool]] = ()
    name: str = ""
    instruction: str = ""


class Interactive(Factor):
    """keyboard-interactive: asks every round, then compares or asks `check`."""

    method = "keyboard-interactive"

    def __init__(
        self,
        *rounds: Round,
        answers: Sequence[Sequence[str]] | None = None,
        check: Callable[[list[list[str]]], bool] | None = None,
    ) -> None:
        self.rounds, self.answers, self.check = rounds, answers, check

    def judge(self, conn: AuthTransport, request: AuthRequest) -> bool | None:
        for one in self.rounds:
            prompts = b"".join(string(text) + boolean(echo) for text, echo in one.prompts)
            head = string(one.name) + string(one.instruction) + string(b"")
            conn.send(Msg.USERAUTH_PK_OK, head, u32(len(one.prompts)), prompts)
            payload = conn.read_packet()
            if payload[0] != Msg.USERAUTH_INFO_RESPONSE:
                conn.unread(payload)  # the client chose another method: its right
                return None
            fields = Fields(payload[1:])
            request.answers.append([fields.text() for _ in range(fields.u32())])
            if len(request.answers[-1]) != len(one.prompts):
                raise PeerError(f"{len(request.answers[-1])} answers to {len(one.prompts)} prompts")
        if self.check is not None:
            return self.check(request.answers)
        return self.answers is None or request.answers == [list(one) for one in self.answers]


class Anything(Factor):
    """Accepts whatever comes, unverified."""

    method = "*"

    def judge(self, conn: AuthTransport, request: AuthRequest) -> bool | None:
        if request.method == "publickey":
            return PublicKey(check=False).judge(conn, request)
        return True


class AuthTransport(Transport):
    """Adds `ssh-userauth` (RFC 4252, RFC 4256).

    Attributes:
        auth_log: every request in order, refused ones too.
        user: who logged in.
    """

    auth_log: list[AuthRequest]
    user = ""

    def unread(self, payload: bytes) -> None:
        self._queued.appendleft(payload)

    def expect_service(self, name: str = "ssh-userauth") -> None:
        asked = self.expect(Msg.SERVICE_REQUEST).text()
        if asked != name:
            raise PeerError(f"client asked for service {asked}")
        self.send(Msg.SERVICE_ACCEPT, string(name))

    def read_auth_request(self) -> AuthRequest:
        fields = self.expect(Msg.USERAUTH_REQUEST)
        request = AuthRequest(fields.text(), fields.text(), fields.text())
        if request.method == "password":
            changing = fields.boolean()
            request.password = fields.text()
            request.new_password = fields.text() if changing else ""
        elif request.method == "publickey":
            signed = fields.boolean()
            request.algorithm, request.blob = fields.text(), fields.string()
            if signed:
                request.signature = fields.string()
                request.signed = string(self.session_id or b"") + wire.message(
                    Msg.USERAUTH_REQUEST,
                    *map(string, (request.user, request.service, request.method)),
                    boolean(True),
                    string(request.algorithm),
                    string(request.blob),
                )
        self.auth_log.append(request)
        return request

    def auth_banner(self, text: bytes | str, language: str = "") -> None:
        self.send(Msg.USERAUTH_BANNER, string(text), string(language))

    def auth_failure(self, methods: Sequence[str] = (), *, partial: bool = False) -> None:
        self.send(Msg.USERAUTH_FAILURE, names(methods), boolean(partial))

    def auth_success(self) -> None:
        self.send(Msg.USERAUTH_SUCCESS)

    def authenticate(
        self,
        *factors: Factor,
        require_all: bool = False,
        methods: Sequence[str] | None = None,
        banner: bytes | str | None = None,
        attempts: int = 20,
    ) -> AuthRequest:
        """Judges requests until one succeeds (no factors: the first one does).

        `require_all` demands the factors in any order, with partial successes.
        `methods` are advertised instead of the methods of the factors left.
        After `attempts` refusals the server disconnects.
        """
        left = list(factors) or [Anything()]
        if banner is not None:
            self.auth_banner(banner)
        while attempts:
            request = self.read_auth_request()
            fitting = (one for one in left if one.method in (request.method, "*"))
            factor = next(fitting, None)
            verdict = factor.judge(self, request) if factor else False
            if verdict is None:
                continue
            if verdict and factor:
                left.remove(factor)
                if not require_all or not left:
                    self.user = request.user
                    self.auth_success()
                    return request
            elif request.method != "none":
                attempts -= 1
            offered = dict.fromkeys(one.method for one in left if one.method != "none")
            self.auth_failure([*offered] if methods is None else methods, partial=verdict)
        self.send_disconnect(2, "Too many authentication failures")
        raise ClientGone("too many authentication failures")
