"""The same on many hosts at once.

from hussh.multi_conn import MultiConnection

with MultiConnection.from_shared_auth(["web1", "web2"], "u", "…", proxy_jump="bastion") as multi:
    for host, result in multi.execute("uptime").items():
        print(host, result.stdout)
"""

from ._api.async_connection import AsyncConnection
from ._api.multi import MultiConnection
from ._api.multi_async import AsyncMultiConnection
from ._api.multi_tail import AsyncMultiFileTailer, MultiFileTailer
from ._policy.multi_result import HostResult, MultiResult
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
