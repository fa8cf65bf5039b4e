"""Logging in with a password, by keyboard-interactive, and with what a prompt callback answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from hussh import AuthenticationError, Connection, ConnectionLost, Prompt, PromptRequest
from tests.auth.steps import SshdFactory, attempts, login, refused
from tests.support.hostile import (
    Conn,
    HostileServer,
    Interactive,
    Password,
    Round,
    polite,
)
from tests.support.sshd import Sshd

INTERACTIVE = "keyboard-interactive/pam"
TWO_ROUNDS: dict[str, Any] = {
    "pam": "password+otp",
    "options": {"PasswordAuthentication": "no", "PubkeyAuthentication": "no"},
}


class Answers:
    """A prompt callback with prepared answers; keeps what it was asked."""

    def __init__(self, *rounds: Sequence[str]) -> None:
        self._rounds = list(rounds)
        self.asked: list[PromptRequest] = []

    def __call__(self, request: PromptRequest) -> Sequence[str]:
        self.asked.append(request)
        return self._rounds.pop(0)


def test_right_password(target: Sshd) -> None:
    """A password logs in with one request, and the connection works."""
    with login(target, password=target.alice.password) as connection:
        assert connection.execute("id -un").stdout == f"{target.alice.name}\n"
    assert attempts(target) == [("password", "accepted")]


def test_wrong_password(target: Sshd) -> None:
    """A wrong password is sent once, and is in neither the error nor its repr."""
    error = refused(target, password="wrong-4711")
    assert type(error) is AuthenticationError
    assert attempts(target) == [("password", "failed")]
    assert error.tried == ("password",)
    assert error.methods_left == ("publickey", "password", "keyboard-interactive")
    assert "wrong-4711" not in f"{error} {error!r}"


def test_unknown_user(target: Sshd) -> None:
    """A user whom the server does not know is told apart from nobody."""
    error = refused(target, username="nobody-here", password="whatever")
    assert type(error) is AuthenticationError
    assert error.hop == f"nobody-here@{target.host}:{target.port}"


@pytest.mark.parametrize("password", ["pä ß wörd €", "'\"\\ $(x)", "x" * 1000, " "])
def test_odd_passwords_arrive_as_they_are(password: str) -> None:
    """A password travels as UTF-8, unchanged."""
    with HostileServer(polite(Password(password))) as server:
        Connection(*server.address, "alice", password).close()
        assert server.wait().auth_log[-1].password == password


def test_password_answers_the_only_prompt(sshd_factory: SshdFactory) -> None:
    """A server with keyboard-interactive alone gets the password as the answer."""
    server = sshd_factory(options={"PasswordAuthentication": "no"})
    with login(server, password=server.alice.password) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    wrong = refused(server, password="wrong-4711")
    assert type(wrong) is AuthenticationError
    outcomes = [outcome for method, outcome in attempts(server) if method == INTERACTIVE]
    assert outcomes.count("accepted") == 1
    assert "wrong-4711" not in f"{wrong} {wrong!r}"


def test_text_without_a_prompt_is_answered(sshd_factory: SshdFactory) -> None:
    """A server that only greets in one round, or above its prompt, still gets its answer."""
    server = sshd_factory(pam="text+password", options={"PasswordAuthentication": "no"})
    login(server, password=server.alice.password).close()
    rounds = [Round(), Round([], "name", "text"), Round([("Password: ", False)]), Round()]
    with HostileServer(polite(Interactive(*rounds, answers=[[], [], ["pw"], []]))) as hostile:
        Connection(*hostile.address, "alice", "pw").close()
        hostile.wait()


def test_password_then_one_time_code(sshd_factory: SshdFactory) -> None:
    """The password answers the first round and prompt= the second, which it is told about."""
    server = sshd_factory(**TWO_ROUNDS)
    prompt = Answers([server.alice.otp])
    with login(server, password=server.alice.password, prompt=prompt) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    (asked,) = prompt.asked
    assert asked.hop == f"{server.alice.name}@{server.host}:{server.port}"
    assert [(type(each), each.echo) for each in asked.prompts] == [(Prompt, False)]
    assert asked.prompts[0].text


def test_prompt_answers_both_rounds(sshd_factory: SshdFactory) -> None:
    """Without a password prompt= is asked in both rounds, in order."""
    server = sshd_factory(**TWO_ROUNDS)
    prompt = Answers([server.alice.password], [server.alice.otp])
    login(server, prompt=prompt).close()
    assert [len(request.prompts) for request in prompt.asked] == [1, 1]
    assert prompt.asked[0].prompts[0].text.startswith("Password")


def test_wrong_code(sshd_factory: SshdFactory) -> None:
    """A wrong one-time code is an AuthenticationError that holds neither secret."""
    server = sshd_factory(**TWO_ROUNDS)
    error = refused(server, password=server.alice.password, prompt=Answers(["654321"]))
    assert type(error) is AuthenticationError
    assert "654321" not in f"{error} {error!r}"
    assert server.alice.password not in f"{error} {error!r}"


def test_code_that_nobody_answers(sshd_factory: SshdFactory) -> None:
    """Without prompt= the error quotes what the server asked and names the option."""
    server = sshd_factory(**TWO_ROUNDS)
    prompt = Answers([server.alice.otp])
    login(server, password=server.alice.password, prompt=prompt).close()
    text = prompt.asked[0].prompts[0].text
    error = refused(server, password=server.alice.password)
    assert type(error) is AuthenticationError
    assert repr(text) in str(error)
    assert "prompt=" in str(error)


def test_two_prompts_in_one_round() -> None:
    """Two questions at once go to prompt= together, texts and echo flags as they came."""
    one = Round([("Password: ", False), ("Token: ", True)], "Login", "Have it ready")
    prompt = Answers(["pw", "123"])
    with HostileServer(polite(Interactive(one, answers=[["pw", "123"]]))) as server:
        Connection(*server.address, "alice", "pw", prompt=prompt).close()
        server.wait()
    (asked,) = prompt.asked
    assert (asked.name, asked.instruction) == ("Login", "Have it ready")
    assert asked.prompts == (Prompt("Password:", False), Prompt("Token:", True))


def test_two_prompts_that_nobody_answers() -> None:
    """Without prompt= the password is not sent as half an answer, and both prompts are named."""
    one = Round([("Password: ", False), ("Token: ", True)])
    with HostileServer(polite(Interactive(one))) as server:
        with pytest.raises(AuthenticationError, match=r"'Password:', 'Token:'"):
            Connection(*server.address, "alice", "pw")
        assert [each.answers for each in server.wait().auth_log][-1] == []


def test_password_is_not_shown_on_a_screen() -> None:
    """A prompt whose answer is echoed is no question for the password."""
    one = Round([("User: ", True)])
    with HostileServer(polite(Interactive(one))) as server:
        with pytest.raises(AuthenticationError, match="'User:'"):
            Connection(*server.address, "alice", "pw")
        assert "pw" not in str([each.answers for each in server.wait().auth_log])


def test_refused_password_is_not_sent_under_another_name() -> None:
    """A server that refuses the password, then asks for it in a prompt, does not get it again."""
    questions = Interactive(Round([("Password: ", False)]), check=lambda _: False)
    with HostileServer(polite(Password("right"), questions)) as server:
        with pytest.raises(AuthenticationError):
            Connection(*server.address, "alice", "wrong")
        assert [each.method for each in server.wait().auth_log] == ["password"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda _: [], ValueError),
        (lambda _: ["a", "b"], ValueError),
        (lambda _: "7", ValueError),
        (lambda _: [7], ValueError),
        (lambda _: ["se\0cret"], ValueError),
        (lambda _: ["secret\ud800"], ValueError),
        (lambda _: None, TypeError),
        (lambda _: dict[str, str]()["missing"], KeyError),
        (lambda _: (_ for _ in ()).throw(KeyboardInterrupt), KeyboardInterrupt),
    ],
    ids=["none", "two", "text", "number", "NUL", "surrogate", "None", "raises", "interrupt"],
)
def test_prompt_that_misbehaves(
    answer: Callable[[PromptRequest], Any], error: type[BaseException]
) -> None:
    """What goes wrong in prompt= comes out as it is, nothing is sent, the connection is closed."""
    hung_up: list[bool] = []

    def script(conn: Conn) -> None:
        try:
            polite(Interactive(Round([("Code: ", False)])))(conn)
        except ConnectionError:
            hung_up.append(True)

    with HostileServer(script) as server:
        with pytest.raises(error) as caught:
            Connection(*server.address, "alice", prompt=answer)
        conn = server.wait()
    assert hung_up == [True]
    assert conn.auth_log[-1].answers == []
    assert "secret" not in str(caught.value)


def test_server_that_never_stops_asking() -> None:
    """A server may ask many times, but not for ever."""
    rounds = [Round([("Again: ", True)])] * 1000
    prompt = Answers(*[["x"]] * 1000)
    with HostileServer(polite(Interactive(*rounds))) as server:
        with pytest.raises(AuthenticationError, match="more than 20 times"):
            Connection(*server.address, "alice", prompt=prompt)
        server.wait()
    assert len(prompt.asked) == 20


def test_expired_password() -> None:
    """A server that wants the password changed is told nothing, and the error says what to do."""
    with HostileServer(polite(Password("old", change_to="new"))) as server:
        with pytest.raises(AuthenticationError, match="expired and must be changed"):
            Connection(*server.address, "alice", "old")
        assert len(server.wait().auth_log) == 1


def test_prompts_are_fit_for_a_terminal() -> None:
    """Control characters of a server reach neither the callback nor the error."""
    one = Round([("Co\x1b[2Jde\r\n\0: ", True)], "\x1b]0;own\x07", "a\nb")
    prompt = Answers(["x"])
    with HostileServer(polite(Interactive(one))) as server:
        Connection(*server.address, "alice", prompt=prompt).close()
    with HostileServer(polite(Interactive(one))) as server:
        with pytest.raises(AuthenticationError) as caught:
            Connection(*server.address, "alice", "pw")
        server.wait()
    (asked,) = prompt.asked
    shown = asked.name + asked.instruction + asked.prompts[0].text + str(caught.value)
    assert shown.isprintable()


def test_server_that_hangs_up_during_the_login() -> None:
    """A connection that ends between request and answer is lost, not refused."""

    def script(conn: Conn) -> None:
        conn.version_exchange()
        conn.key_exchange()
        conn.expect_service()
        conn.read_auth_request()

    with HostileServer(script) as server, pytest.raises(ConnectionLost) as caught:
        Connection(*server.address, "alice", "pw")
    assert (caught.value.hop_index, caught.value.phase) == (0, "auth")
