"""The same on many hosts at once.

from hussh.multi_conn import MultiConnection

with MultiConnection.from_shared_auth(["web1", "web2"], "u", "…", proxy_jump="bastion") as multi:
    for host, result in multi.execute("uptime").items():
        print(host, result.stdout)

Users import it. It has names only; `_multi` has the classes.
"""

from ._api.async_connection import AsyncConnection
from ._host_results import HostResult, MultiResult
from ._multi.async_multi_connection import AsyncMultiConnection
from ._multi.multi_connection import MultiConnection
from ._multi.tail import AsyncMultiFileTailer, MultiFileTailer
from .errors import PartialFailureException

__all__ = [
    "AsyncConnection",
    "AsyncMultiConnection",
    "AsyncMultiFileTailer",
    "HostResult",
    "MultiConnection",
    "MultiFileTailer",
    "MultiResult",
    "PartialFailureException",
]
