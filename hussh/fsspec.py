"""hussh for fsspec: ``hussh://user@host/path``, through bastions and proxy commands.

Users need the extra ``hussh[fsspec]``. Importing it registers the protocol; where hussh is
installed, fsspec finds the protocol by itself. It has no logic: `_fsspec` has the file system.
"""

from fsspec import register_implementation

from ._fsspec.file import HusshFile
from ._fsspec.filesystem import HusshFileSystem

__all__ = ["HusshFile", "HusshFileSystem"]

register_implementation("hussh", HusshFileSystem, clobber=True)
