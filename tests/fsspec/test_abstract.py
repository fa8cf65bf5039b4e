"""fsspec's own suite for file systems, over a real sshd."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.sshd import Sshd

pytest.importorskip("fsspec", reason="fsspec is not installed")

from fsspec.asyn import get_loop
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests import abstract

from hussh.fsspec import HusshFileSystem

get_loop()  # fsspec's thread stays as long as the process; no test has left it behind


class Fixtures(abstract.AbstractFixtures):  # type: ignore[misc]
    """What the suite asks for."""

    @pytest.fixture
    def fs(self, target: Sshd) -> Iterator[Any]:
        """Yield the file system under test, as alice on the target."""
        key = target.alice.key.path
        fs = HusshFileSystem(
            target.host, port=target.port, username=target.alice.name, private_key=key
        )
        yield fs
        fs.close()
        HusshFileSystem.clear_instance_cache()

    @pytest.fixture
    def fs_join(self) -> Any:
        """Return what joins paths of the server."""
        return lambda *parts: os.path.join(*parts)

    @pytest.fixture
    def fs_path(self, target: Sshd) -> Iterator[str]:
        """Yield an empty folder on the server."""
        with target.alice.folder("abstract"):
            yield target.alice.path("abstract")

    @pytest.fixture
    def local_fs(self) -> Any:
        """Return the local file system."""
        return LocalFileSystem(auto_mkdir=True)

    @pytest.fixture
    def local_path(self, tmp_path: Path) -> str:
        """Return an empty folder here."""
        (tmp_path / "local").mkdir()
        return str(tmp_path / "local")


class TestCopy(abstract.AbstractCopyTests, Fixtures):  # type: ignore[misc]
    """`fs.copy`."""


class TestGet(abstract.AbstractGetTests, Fixtures):  # type: ignore[misc]
    """`fs.get`."""


class TestPut(abstract.AbstractPutTests, Fixtures):  # type: ignore[misc]
    """`fs.put`."""


class TestOpen(abstract.AbstractOpenTests, Fixtures):  # type: ignore[misc]
    """`fs.open`."""


class TestPipe(abstract.AbstractPipeTests, Fixtures):  # type: ignore[misc]
    """`fs.pipe`."""
