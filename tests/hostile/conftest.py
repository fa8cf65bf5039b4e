"""The client process that all tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.client_process import ClientProcess


@pytest.fixture(scope="session")
def client() -> Iterator[ClientProcess]:
    """Return a client process; it is started anew after it died."""
    with ClientProcess() as started:
        yield started
