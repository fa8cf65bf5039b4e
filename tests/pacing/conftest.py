"""Fixtures of the tests of pacing: coroutine tests run once per kind of event loop."""

from __future__ import annotations

from tests.aio.conftest import loop, make, pytest_pyfunc_call

__all__ = ["loop", "make", "pytest_pyfunc_call"]
