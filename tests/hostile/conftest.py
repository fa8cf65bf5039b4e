"""The client process that all tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.victims import Victim


@pytest.fixture(scope="session")
def victim() -> Iterator[Victim]:
    """Return a client process; it is started anew after it died."""
    with Victim() as started:
        yield started
