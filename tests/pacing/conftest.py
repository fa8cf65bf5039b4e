"""Fixtures of the tests of pacing: coroutine tests run once per kind of event loop."""

from __future__ import annotations

from tests.aio.conftest import make, pytest_generate_tests, pytest_pyfunc_call

__all__ = ["make", "pytest_generate_tests", "pytest_pyfunc_call"]
