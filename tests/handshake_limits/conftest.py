"""Fixtures of the tests of handshake limits: coroutine tests run once per kind of event loop."""

from __future__ import annotations

import pytest

from tests.aio.conftest import make, pytest_pyfunc_call
from tests.aio.conftest import pytest_generate_tests as every_loop

__all__ = ["make", "pytest_generate_tests", "pytest_pyfunc_call"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once per kind of event loop, unless it chooses for itself."""
    marks = metafunc.definition.iter_markers("parametrize")
    if not any(mark.args[0] == "loop" for mark in marks):
        every_loop(metafunc)
