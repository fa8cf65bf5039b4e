"""Gives file systems of the tests their password, as a provider in a user's own module does."""

from __future__ import annotations

import os
from typing import Any

#: Calls so far: host and user.
ASKED: list[tuple[str, str | None]] = []


def from_environment(host: str, username: str | None) -> dict[str, Any]:
    """Return the password that stands in the environment."""
    ASKED.append((host, username))
    return {"password": os.environ["HUSSH_TEST_PASSWORD"]}


def of_no_use(host: str, username: str | None) -> list[str]:
    """Return what is no mapping of options."""
    return [host]
