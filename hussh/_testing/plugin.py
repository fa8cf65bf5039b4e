"""The fixtures of `hussh.testing`: they make servers in pytest's temporary folder, and end them.

Users' conftest.py names `hussh.testing`, and pytest finds what is here by way of that module.
`server.py` runs the servers; nothing here starts a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TypeVar

import pytest

from .server import Bastion, Sshd, SshdUnavailable

__all__ = ["bastion", "pytest_addoption", "sshd", "sshd_factory"]

_Server = TypeVar("_Server", bound=Sshd)
_MISSING = "hussh_missing_sshd"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the setting that says what becomes of tests where no sshd can be started."""
    parser.addini(
        _MISSING,
        "what becomes of tests that need an sshd where none can be started: error or skip",
        default="error",
    )


@pytest.fixture
def sshd_factory(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Callable[..., Sshd]]:
    """Start servers that end with the test: arguments are those of `Sshd` after its folder."""
    with ExitStack() as servers:

        def start(
            *, behind: Sshd | None = None, settings: Mapping[str, str | int] | None = None
        ) -> Sshd:
            folder = tmp_path_factory.mktemp("sshd")
            return _enter(
                servers, pytestconfig, lambda: Sshd(folder, behind=behind, settings=settings)
            )

        yield start


@pytest.fixture
def sshd(sshd_factory: Callable[..., Sshd]) -> Sshd:
    """Return a running SSH server of the test's own."""
    return sshd_factory()


@pytest.fixture
def bastion(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Bastion]:
    """Return a running bastion of the test's own; only it can reach its `target`."""
    with ExitStack() as servers:
        yield _enter(servers, pytestconfig, lambda: Bastion(tmp_path_factory.mktemp("bastion")))


def _enter(servers: ExitStack, config: pytest.Config, make: Callable[[], _Server]) -> _Server:
    try:
        server = make()
        servers.enter_context(server)
        return server
    except SshdUnavailable as unavailable:
        if config.getini(_MISSING) == "skip":
            pytest.skip(str(unavailable))
        pytest.fail(str(unavailable), pytrace=False)
