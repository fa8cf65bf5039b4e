"""The part of the build that pyproject.toml cannot say: the CFFI module and its ABI tag."""

from __future__ import annotations

import os

from setuptools import setup
from setuptools.command.build_ext import build_ext


class BuildExt(build_ext):
    """Keeps libssh2's files, which lie in a cache, out of the list of what to package."""

    def get_source_files(self) -> list[str]:
        """Return the sources that are ours."""
        return [name for name in super().get_source_files() if not os.path.isabs(name)]


setup(
    cmdclass={"build_ext": BuildExt},
    cffi_modules=["build_ffi.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
