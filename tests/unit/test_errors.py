"""The error tree: places, texts, pickling, and what old code may catch."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

import hussh
from hussh import errors
from hussh._results.ssh_result import SSHResult

CLASSES = [getattr(errors, name) for name in errors.__all__]
MORE: dict[str, dict[str, Any]] = {
    "NegotiationError": {"ours": {"kex": "a"}, "theirs": {"kex": "b"}},
    "HostKeyError": {
        "host": "[h]:2",
        "reason": "changed",
        "fingerprint": "SHA256:a",
        "recorded": ("SHA256:b",),
    },
    "AuthenticationError": {"methods_left": ("password",), "tried": ("key x",)},
    "ChannelRefused": {"reason_code": 1, "reason_text": "no"},
    "JumpRefused": {"target": "t:22", "reason_code": 2, "reason_text": "no"},
    "ServerBusy": {"server_text": "Exceeded MaxStartups", "tries": 1, "may_be_ban": True},
    "CommandTimeout": {"result": SSHResult(b"out", b"err", -1)},
    "OutputLimitExceeded": {"result": SSHResult(b"out", b"", -1)},
}


def make(cls: type[errors.HusshError], **place: Any) -> errors.HusshError:
    """Make an error with all that its class can carry."""
    for base in cls.__mro__:
        if base.__name__ in MORE:
            return cls("it failed", **MORE[base.__name__], **place)
    return cls("it failed", **place)


@pytest.mark.parametrize("cls", CLASSES)
def test_copies_are_equal(cls: type[errors.HusshError]) -> None:
    """An error that crosses processes, or is copied, keeps class, text and every attribute."""
    error = make(cls, hop="u@h:22", hop_index=2, phase="auth")
    twins = [
        pickle.loads(pickle.dumps(error, protocol))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    ]
    for twin in [*twins, copy.copy(error), copy.deepcopy(error)]:
        assert type(twin) is cls
        assert twin.__dict__ == error.__dict__
        assert (twin.args, str(twin), repr(twin)) == (error.args, str(error), repr(error))
        assert (twin.hop, twin.hop_index, twin.phase) == ("u@h:22", 2, "auth")


def test_causes_cross_processes() -> None:
    """What one of our errors came from goes with it, unless it is not ours."""
    busy = errors.ServerBusy("full", hop="u@bastion:22", server_text="Exceeded")
    busy.__cause__ = OSError("with something that does not pickle", lambda: None)
    error = errors.ConnectionLost("lost", hop="u@target:22")
    error.__cause__ = busy
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        cause = twin.__cause__
        assert isinstance(cause, errors.ServerBusy)
        assert (cause.hop, cause.server_text, cause.__cause__) == ("u@bastion:22", "Exceeded", None)


def test_causes_of_other_hops_are_told() -> None:
    """The text names the hop that took this one along, once, and no cause at the same hop."""
    error = errors.ConnectionLost("gone", hop="u@target:22", phase="exec")
    for hop in ("u@target:22", None):
        error.__cause__ = errors.ConnectTimeout("late", hop=hop, phase="queue")
        assert str(error) == "gone [u@target:22, exec]"
    error.__cause__ = errors.ConnectionLost("no answer", hop="u@bastion:22", phase="channel")
    assert str(error) == "gone [u@target:22, exec], because: no answer [u@bastion:22, channel]"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    error.text = "the bastion u@bastion:22 is gone"
    assert str(error) == "the bastion u@bastion:22 is gone [u@target:22, exec]"


@pytest.mark.parametrize("cls", CLASSES)
def test_class_is_public_and_documented(cls: type[errors.HusshError]) -> None:
    """Every class is in the package, has the root as its base, and says what it means."""
    assert getattr(hussh, cls.__name__) is cls
    assert cls.__name__ in hussh.__all__
    assert issubclass(cls, errors.HusshError)
    assert inspect.getdoc(cls)


@pytest.mark.parametrize("cls", CLASSES)
def test_text_tells_the_place(cls: type[errors.HusshError]) -> None:
    """The text has hop and phase once they are known, and only then."""
    error = make(cls)
    assert str(error) == "it failed"
    assert error.at("u@h:22", 0, "kex") is error
    assert str(error) == f"it failed [u@h:22, {cls.default_phase or 'kex'}]"


def test_place_is_not_overwritten() -> None:
    """Who knows the place first knows it best."""
    error = errors.ConnectionLost("gone", hop="a@b:22", hop_index=0, phase="auth")
    error.at("c@d:22", 1, "exec")
    assert (error.hop, error.hop_index, error.phase) == ("a@b:22", 0, "auth")


OLD_SYNC = {"AuthenticationError", "KeyFileError", "KeyRefused", "KeyUnreadable",
            "PassphraseRequired", "WrongPassphrase", "HusshError",
            "PartialFailureException"}  # fmt: skip


@pytest.mark.parametrize("cls", CLASSES)
def test_old_code_still_catches(cls: type[errors.HusshError]) -> None:
    """The async API's users caught RuntimeError, the sync one's OSError or AuthenticationError."""
    assert cls is errors.HusshError or issubclass(cls, RuntimeError)
    assert issubclass(cls, OSError) == (cls.__name__ not in OLD_SYNC)
    no_way = {errors.ConnectError, errors.ServerBusy, errors.JumpRefused}
    is_timeout = cls.__name__.endswith("Timeout") or cls in no_way
    assert issubclass(cls, TimeoutError) == is_timeout


def test_raised_errors_have_no_errno() -> None:
    """A one-argument OSError has no number; code that compares errno gets None, not a crash."""
    error = errors.ConnectError("no route", hop="u@h:22", hop_index=0)
    assert (error.errno, error.strerror, error.filename) == (None, None, None)
