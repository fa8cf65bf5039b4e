"""Servers that want more than one credential (partial success, RFC 4252 section 5.1)."""

from __future__ import annotations

import pytest

from hussh import AuthenticationError, Connection, PromptRequest
from tests.auth.steps import SshdFactory, attempts, login, refused
from tests.support.agent import SshAgent
from tests.support.hostile import (
    HostileServer,
    Interactive,
    Password,
    PublicKey,
    Round,
    polite,
)
from tests.support.keys import Keys

PASSPHRASE = "correct horse 42"
CODE = [("Code: ", False)]


def test_key_and_password(sshd_factory: SshdFactory) -> None:
    """publickey,password: a plain key, then password= as the login password."""
    server = sshd_factory(options={"AuthenticationMethods": "publickey,password"})
    alice = server.alice
    with login(server, private_key=alice.key.path, password=alice.password) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    assert attempts(server) == [("publickey", "partial"), ("password", "accepted")]


@pytest.mark.parametrize("source", ["file", "agent"])
def test_key_and_keyboard_interactive(
    source: str, sshd_factory: SshdFactory, agent: SshAgent
) -> None:
    """publickey,keyboard-interactive with two rounds: a key, then prompt= for password and code."""
    server = sshd_factory(
        pam="password+otp",
        options={"AuthenticationMethods": "publickey,keyboard-interactive"},
    )
    alice = server.alice
    agent.add(alice.key)
    answers = [alice.password, alice.otp]

    def prompt(request: PromptRequest) -> list[str]:
        return [answers.pop(0) for _ in request.prompts]

    with login(
        server, private_key=alice.key.path if source == "file" else None, prompt=prompt
    ) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    assert answers == []
    outcomes = [outcome for _, outcome in attempts(server) if outcome != "postponed"]
    assert outcomes == ["partial", "accepted"]


def test_key_and_answer_of_the_password(sshd_factory: SshdFactory) -> None:
    """publickey,keyboard-interactive with one prompt: password= answers it without a callback."""
    server = sshd_factory(
        options={"AuthenticationMethods": "publickey,keyboard-interactive:pam"},
    )
    alice = server.alice
    login(server, private_key=alice.key.path, password=alice.password).close()


def test_two_keys(sshd_factory: SshdFactory, keys: Keys, agent: SshAgent) -> None:
    """publickey,publickey: the named key, then the agent's other one; none is offered twice."""
    server = sshd_factory(options={"AuthenticationMethods": "publickey,publickey"})
    second = keys.get("ecdsa-256", name="second")
    server.authorize(server.alice, second)
    agent.add(server.alice.key)
    agent.add(second)
    login(server, private_key=server.alice.key.path).close()
    server.wait_for_log(r"^Accepted publickey")  # the server tells us before it tells its log
    outcomes = [outcome for _, outcome in attempts(server)]
    assert outcomes == ["partial", "postponed", "accepted"]


def test_password_and_code(sshd_factory: SshdFactory) -> None:
    """password,keyboard-interactive: password= serves both, as the server asks."""
    server = sshd_factory(
        options={"AuthenticationMethods": "password,keyboard-interactive"},
    )
    login(server, password=server.alice.password).close()


def test_second_factor_that_is_missing(sshd_factory: SshdFactory) -> None:
    """A key alone where more is wanted: the error says that it was taken, and what would help."""
    server = sshd_factory(options={"AuthenticationMethods": "publickey,keyboard-interactive"})
    error = refused(server, private_key=server.alice.key.path)
    assert type(error) is AuthenticationError
    assert "took a first credential and wants another" in str(error)
    assert "prompt=" in str(error)
    assert error.methods_left == ("keyboard-interactive",)


def test_second_factor_that_is_wrong(sshd_factory: SshdFactory) -> None:
    """A wrong password after the key is AuthenticationError, not a refused key."""
    server = sshd_factory(options={"AuthenticationMethods": "publickey,password"})
    error = refused(server, private_key=server.alice.key.path, password="wrong-4711")
    assert type(error) is AuthenticationError
    assert error.tried[-1] == "password"
    assert "wrong-4711" not in f"{error} {error!r}"


def test_passphrase_is_the_password_too(keys: Keys) -> None:
    """An encrypted key that was taken, and a password wanted: password= is tried for it as well."""
    key = keys.get(name="alice", passphrase=PASSPHRASE)
    script = polite(PublicKey([key.blob]), Password(PASSPHRASE), require_all=True)
    with HostileServer(script) as server:
        Connection(*server.address, "alice", PASSPHRASE, key.path).close()
        assert [each.method for each in server.wait().auth_log] == ["publickey", "password"]


def test_passphrase_is_no_answer_where_prompt_can_be_asked(keys: Keys) -> None:
    """An encrypted key and a code: prompt= is asked, and the passphrase stays here."""
    key = keys.get(name="alice", passphrase=PASSPHRASE)
    script = polite(
        PublicKey([key.blob]), Interactive(Round(CODE), answers=[["123"]]), require_all=True
    )
    with HostileServer(script) as server:
        Connection(*server.address, "alice", PASSPHRASE, key.path, prompt=lambda _: ["123"]).close()
        log = server.wait().auth_log
    assert [each.method for each in log] == ["publickey", "keyboard-interactive"]
    assert log[1].answers == [["123"]]


def test_one_prompt_for_all_hops(sshd_factory: SshdFactory) -> None:
    """A bastion given by name asks the same callback as the target, which knows who asks."""
    settings = {"pam": "password+otp", "options": {"PasswordAuthentication": "no"}}
    bastion, target = sshd_factory(**settings), sshd_factory(**settings)
    asked: list[str] = []
    answers = {
        f"bob@{bastion.host}:{bastion.port}": [bastion.bob.password, bastion.bob.otp],
        f"alice@{target.host}:{target.port}": [target.alice.password, target.alice.otp],
    }

    def prompt(request: PromptRequest) -> list[str]:
        asked.append(request.hop)
        return [answers[request.hop].pop(0) for _ in request.prompts]

    with login(
        target, agent=False, prompt=prompt, proxy_jump=f"bob@{bastion.host}:{bastion.port}"
    ) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    assert asked == [hop for hop in answers for _ in range(2)]


def test_two_factors_on_every_hop(sshd_factory: SshdFactory, keys: Keys, agent: SshAgent) -> None:
    """Two keys at the bastion, key and code at the target, key and password behind that."""
    second = keys.get("ecdsa-256", name="second")
    first = sshd_factory(name="first", options={"AuthenticationMethods": "publickey,publickey"})
    middle = sshd_factory(
        name="middle",
        pam="password+otp",
        options={"AuthenticationMethods": "publickey,keyboard-interactive"},
    )
    last = sshd_factory(name="last", options={"AuthenticationMethods": "publickey,password"})
    first.authorize(first.alice, second)
    agent.add(first.alice.key)
    agent.add(second)
    asked: list[str] = []

    def prompt(request: PromptRequest) -> list[str]:
        asked.append(request.hop)
        return [middle.alice.password if len(asked) == 1 else middle.alice.otp]

    key = first.alice.key.path
    with (
        login(first) as one,
        login(middle, private_key=key, prompt=prompt, proxy_jump=one) as two,
        login(last, private_key=key, password=last.alice.password, proxy_jump=two) as three,
        login(last, private_key=key, password=last.alice.password, proxy_jump=two) as four,
    ):
        assert three.execute("echo $SERVER_NAME").stdout == "last\n"
        assert four.execute("echo $SERVER_NAME").stdout == "last\n"
    assert asked == [f"alice@{middle.host}:{middle.port}"] * 2  # once for each of its two rounds


def test_prompt_of_every_hop_names_it(sshd_factory: SshdFactory) -> None:
    """Bastion and target both ask for a code; each is asked once, under its own name."""
    settings = {"pam": "password+otp", "options": {"PasswordAuthentication": "no"}}
    bastion, target = sshd_factory(**settings), sshd_factory(**settings)
    asked: list[str] = []

    def prompt_of(otp: str) -> object:
        def prompt(request: PromptRequest) -> list[str]:
            asked.append(request.hop)
            return [otp]

        return prompt

    alice, bob = bastion.alice, target.bob
    with (
        login(bastion, password=alice.password, prompt=prompt_of(alice.otp)) as way,
        login(
            target,
            username=bob.name,
            password=bob.password,
            prompt=prompt_of(bob.otp),
            proxy_jump=way,
        ),
        login(target, password=target.alice.password, prompt=prompt_of(target.alice.otp),
              proxy_jump=way),
    ):  # fmt: skip
        pass
    assert asked == [
        f"alice@{bastion.host}:{bastion.port}",
        f"bob@{target.host}:{target.port}",
        f"alice@{target.host}:{target.port}",
    ]
