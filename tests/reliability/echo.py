"""A process that sends back what comes on each of its connections: the far end of tunnels.

Run as a script by ``Echo`` here, in isolated mode, with nothing but the standard library. It is a
process of its own so that the client under test holds no thread and no descriptor for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys


class Echo:
    """An echo server on a free port of 127.0.0.1; started by entering it.

    Attributes:
        address: host and port.
    """

    address: tuple[str, int]

    def __enter__(self) -> Echo:
        """Start; returns when it listens."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.address = ("127.0.0.1", int(self._process.stdout.readline()))
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _main() -> None:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main())
