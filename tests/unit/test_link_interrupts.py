"""A Ctrl-C at any place at which a `Link` is made: what is left of it is freed without a word."""

from __future__ import annotations

import sys
from types import CodeType
from typing import Any

import pytest

from hussh._native.link import Link
from tests.timeouts.interrupted_everywhere import Injector


def is_traced(code: CodeType) -> bool:
    """Tell whether code is that which makes a link."""
    return code is Link.__init__.__code__


def test_interrupt_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The finalizer of a link that is made by half has no error, which nobody could catch."""
    errors: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", errors.append)
    number = 0
    while True:
        number += 1
        injector = Injector(number, is_traced)
        sys.settrace(injector.enter)
        try:
            Link.over_memory()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        assert not errors, injector.where
        if not injector.where:
            break
    assert number > 5
