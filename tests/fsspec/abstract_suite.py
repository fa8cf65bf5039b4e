"""fsspec's own suite for file systems, with ours; `test_abstract.py` runs it in another process.

Its arguments stand in the environment: HUSSH_ABSTRACT has the options as JSON, and the path of an
empty folder on the server.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests import abstract

from hussh.fsspec import HusshFileSystem

OPTIONS, FOLDER = json.loads(os.environ["HUSSH_ABSTRACT"])


class Fixtures(abstract.AbstractFixtures):  # type: ignore[misc]
    """What the suite asks for."""

    @pytest.fixture
    def fs(self) -> Any:
        """Return the file system under test."""
        return HusshFileSystem(**OPTIONS)

    @pytest.fixture
    def fs_join(self) -> Any:
        """Return what joins paths of the server."""
        return lambda *parts: os.path.join(*parts)

    @pytest.fixture
    def fs_path(self) -> str:
        """Return a folder on the server, which each test leaves empty."""
        return str(FOLDER)

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
