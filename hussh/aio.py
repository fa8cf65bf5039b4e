"""SSH for hosts that you cannot reach directly, for asyncio and trio.

from hussh.aio import AsyncConnection

async with AsyncConnection("bastion", "u", "…") as bastion:
    async with AsyncConnection("target.internal", "u", proxy_jump=bastion) as target:
        print((await target.execute("hostname")).stdout)

Users import it. It has names only; `_api` has the classes.
"""

from ._api.async_connection import AsyncConnection
from ._api.async_explain import explain
from ._api.async_forward import AsyncForward
from ._api.async_process import AsyncInteractiveShell, AsyncProcess
from ._api.async_sftp import AsyncSFTP
from ._api.async_sftp_file import AsyncSFTPFile
from ._api.async_tail import AsyncFileTailer
from ._api.async_tunnel import AsyncTunnel

__all__ = [
    "AsyncConnection",
    "AsyncFileTailer",
    "AsyncForward",
    "AsyncInteractiveShell",
    "AsyncProcess",
    "AsyncSFTP",
    "AsyncSFTPFile",
    "AsyncTunnel",
    "explain",
]
