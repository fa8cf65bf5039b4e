"""Nothing secret gets into logs, reprs, errors or pickles, and nothing at all is printed."""

from __future__ import annotations

import contextlib
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hussh import Connection, HusshError, PromptRequest
from tests.auth.steps import SshdFactory, login
from tests.support.agent import SshAgent
from tests.support.keys import Keys
from tests.support.sshd import Sshd


class Collector(logging.Handler):
    """Keeps everything that a record holds, whatever a formatter would show of it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts += [record.getMessage(), repr(record.__dict__)]


@pytest.fixture
def records() -> Iterator[Collector]:
    """Collect all log records of the process, at every level."""
    collector, root = Collector(), logging.getLogger()
    before = root.level
    root.addHandler(collector)
    root.setLevel(logging.DEBUG)
    try:
        yield collector
    finally:
        root.removeHandler(collector)
        root.setLevel(before)


def shown(error: BaseException) -> list[str]:
    """Return every form in which an error could be printed, kept or sent."""
    texts = [str(error), repr(error), repr(error.args), repr(vars(error))]
    texts.append("".join(traceback.format_exception(error)))
    if isinstance(error, HusshError):
        texts.append(pickle.dumps(error).decode("latin-1"))
    chain: BaseException | None = error
    while chain is not None:
        texts += [repr(chain), repr(vars(chain))]
        chain = chain.__cause__ or chain.__context__
    return texts


def test_no_secret_gets_out(
    bastion: Sshd,
    sshd_factory: SshdFactory,
    keys: Keys,
    agent: SshAgent,
    records: Collector,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Logins of every kind, good and bad, leave no secret in any text that we make."""
    passphrase, wrong, mistaken = "phrase-a1b2c3", "wrong-d4e5f6", "otp-g7h8i9"
    locked = keys.get(name="alice", passphrase=passphrase)
    plain = keys.get("rsa", name="alice")
    agent.add(keys.get("ecdsa-256", name="stranger"))
    code = sshd_factory(pam="password+otp", options={"PasswordAuthentication": "no"})
    alice, coded = bastion.alice, code.alice
    secrets = [passphrase, wrong, mistaken, alice.password, coded.password, coded.otp]
    secrets += [line for key in (locked, plain) for line in key.text.splitlines()[1:-1]]
    texts: list[str] = []

    def answer(*answers: str) -> Callable[[PromptRequest], list[str]]:
        return lambda request: list(answers)

    def attempt(server: Sshd, **options: Any) -> None:
        """Log in, use the connection, and keep what can be seen of either or of the error."""
        try:
            connection = login(server, **options)
        except Exception as error:
            texts.extend(shown(error))
            return
        with connection:
            texts.extend((repr(connection), str(connection), repr(connection._options)))
            texts.append(connection.execute("echo in").stdout)
        with contextlib.suppress(HusshError):
            connection.execute("echo closed")

    attempt(bastion, password=alice.password)
    attempt(bastion, password=wrong)
    attempt(bastion, password=wrong + "\ud800")
    attempt(bastion, private_key=locked.path, password=passphrase)
    attempt(bastion, private_key=locked.path, password=wrong)
    attempt(bastion, private_key=keys.get(name="stranger", passphrase=passphrase).path,
            password=passphrase)  # fmt: skip
    attempt(bastion, private_key=plain.path)
    attempt(bastion, private_key=plain.text)
    attempt(bastion)
    attempt(code, password=coded.password, prompt=answer(coded.otp))
    attempt(code, password=coded.password, prompt=answer(mistaken))
    attempt(code, password=coded.password, prompt=answer(mistaken, mistaken))
    attempt(code, password=coded.password, prompt=answer(mistaken + "\ud800"))
    attempt(code, password=coded.password)
    attempt(code, password=coded.password, proxy_jump=f"{bastion.host}:{bastion.port}")
    attempt(code, password=wrong, proxy_jump=f"u:{wrong}@{bastion.host}")
    with login(bastion, password=alice.password) as way:
        texts.append(repr(way))
        attempt(code, password=coded.password, prompt=answer(coded.otp), proxy_jump=way)
        attempt(code, password=wrong, proxy_jump=way)
    assert [text for text in texts if text == "in\n"] == ["in\n"] * 6
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
    everything = "\n".join([*texts, *records.texts])
    assert [secret for secret in secrets if secret in everything] == []


def test_repr_is_the_known_one(target: Sshd) -> None:
    """The repr of a connection has stars for its password, as in hussh 0.3.3."""
    with login(target, password=target.alice.password) as connection:
        assert repr(connection) == (
            f"Connection(host={target.host}, port={target.port}, username=alice, password=*****)"
        )
        assert connection.password == target.alice.password
    with pytest.raises(HusshError):
        Connection(target.host, target.port, "alice", "wrong")
