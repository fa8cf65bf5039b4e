"""Two servers behind different bastions would be the same code: one direct, one through a jump."""

from __future__ import annotations

from tests.process.conftest import connection, jumped, known_hosts

__all__ = ["connection", "jumped", "known_hosts"]
