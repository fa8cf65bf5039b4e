"""The connections of the tests of commands: one straight to the target, one through the bastion."""

from __future__ import annotations

from tests.process.conftest import connection, jumped, known_hosts

__all__ = ["connection", "jumped", "known_hosts"]
