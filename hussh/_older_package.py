"""Refuses to be imported beside the compiled module of the package hussh 0.3.3.

That package has the same import name. A distribution of this one under another name than "hussh" is
installed into the same folder, and installers do not notice. `hussh` and the root of the errors,
which all modules import, import this first; so nothing runs that is half of either.
"""

from importlib.machinery import EXTENSION_SUFFIXES
from os.path import dirname, exists, join


def _refuse(folder: str) -> None:
    # One look for each of about three names: 10 µs.
    for suffix in EXTENSION_SUFFIXES:
        if exists(join(folder, f"hussh{suffix}")):
            raise ImportError(
                f"{folder} has the files of two packages: of the older hussh 0.3, with "
                f"hussh{suffix}, and of this one. Remove both with pip uninstall, then install one"
            )


_refuse(dirname(__file__))
