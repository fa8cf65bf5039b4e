"""Fixtures of pytest that start throw-away SSH servers, for the tests of programs that use hussh.

# conftest.py
pytest_plugins = ["hussh.testing"]

# test_program.py
def test_greeting(sshd):
    with sshd.connect() as connection:
        assert connection.execute("echo hello").stdout == "hello\\n"

Nothing else of hussh imports this module, which needs pytest. docs/testing.md is its page.
"""

from ._testing.plugin import bastion, pytest_addoption, sshd, sshd_factory
from ._testing.server import Bastion, ConnectOptions, Sshd, SshdUnavailable

__all__ = [
    "Bastion",
    "ConnectOptions",
    "Sshd",
    "SshdUnavailable",
    "bastion",
    "pytest_addoption",
    "sshd",
    "sshd_factory",
]
