"""The part of the build that pyproject.toml cannot say: the CFFI module and its ABI tag.

What a source distribution and a wheel have of libssh2 is put there here: the patched source, and
the licence, which demands that. The README that a package index shows has absolute links: to the
repository, at the tag of the release.
"""

from __future__ import annotations

import os
import runpy
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

# Build front ends do not put this folder there.
TOP = Path(__file__).resolve().parent
sys.path.insert(0, str(TOP))

from release.addresses import absolute_links, repository, revision  # noqa: E402

#: In a source distribution; vendor/fetch.py builds from it.
BUNDLED = "vendor/libssh2"


class Sdist(sdist):
    """Puts the patched source of libssh2 into the source distribution, which then stands alone."""

    def make_release_tree(self, base_dir: str, files: Sequence[str]) -> None:
        """Copy our files, and that source."""
        from build_ffi import fetcher

        # One that lies here, because this is an unpacked source distribution, is made anew:
        # MANIFEST.in leaves it out.
        super().make_release_tree(base_dir, files)
        vendor = fetcher()
        try:
            vendor.bundle(Path(base_dir, BUNDLED))
        except vendor.FetchError as error:
            raise SystemExit(f"hussh: {error}") from None


class BuildExt(build_ext):
    """Keeps libssh2's files, which lie in a cache, out of the list of what to package."""

    def get_source_files(self) -> list[str]:
        """Return the sources that are ours."""
        return [name for name in super().get_source_files() if not os.path.isabs(name)]


class BuildPy(build_py):
    """Puts the licence of libssh2 beside the module that contains it."""

    def run(self) -> None:
        """Copy the Python files, and that one."""
        super().run()
        if not self.editable_mode:  # nobody is given a copy then
            names = [
                name for module in self.distribution.ext_modules or () for name in module.sources
            ]
            source = next(name for name in names if os.path.isabs(name))  # below its src/
            self.copy_file(str(Path(source).parents[1] / "COPYING"), self._licence)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return the paths of what this makes."""
        made = super().get_outputs(include_bytecode)
        return made if self.editable_mode else [*made, self._licence]

    @property
    def _licence(self) -> str:
        return os.path.join(self.build_lib, "hussh/_native/LICENSE.libssh2")


def describe() -> str:
    """Return README with absolute links only."""
    at = revision(runpy.run_path(str(TOP / "hussh/_version.py"))["__version__"])
    address = repository((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    return absolute_links((TOP / "README.md").read_text(encoding="utf-8"), address, at)


setup(
    long_description=describe(),
    long_description_content_type="text/markdown",
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy, "sdist": Sdist},
    cffi_modules=["build_ffi.py:ffibuilder"],
    # Where CPython is free-threaded, there is no such API: see build_ffi.py.
    options={}
    if sysconfig.get_config_var("Py_GIL_DISABLED")
    else {"bdist_wheel": {"py_limited_api": "cp310"}},
)
