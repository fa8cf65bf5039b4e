"""What a user of hussh would write: a command on a target that only a bastion reaches.

Started by scripts/demo.py, which says in the environment where the servers are. Apart from the
clock and the printing, it is the first example of the README.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from hussh import Connection, HusshError, build_info

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = 'echo "hello from $SERVER_NAME, as $(id -un), connected from ${SSH_CONNECTION%% *}"'


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took."""
    start = perf_counter()
    yield
    print(f"  {what:48} {(perf_counter() - start) * 1000:6.1f} ms", flush=True)


def main() -> int:
    """Try the direct way, then the one through the bastion; return the exit status."""
    given = os.environ
    user, password = given["DEMO_USER"], given["DEMO_PASSWORD"]
    direct = given.get("DEMO_DIRECT")
    if direct:
        print(f"\nConnection({direct!r}, username={user!r})")
        try:
            Connection(direct, username=user, timeout=10_000).close()
        except HusshError as error:
            print(f"  {type(error).__name__}: {error}", flush=True)
        else:
            print("  connected: the networks are not apart", file=sys.stderr)
            return 1

    host, target_host = given["DEMO_BASTION"], given["DEMO_TARGET"]
    print(f"\nbastion = Connection({host!r}, username={user!r}, password=…)")
    with timed("connected and logged in"):
        bastion = Connection(
            host,
            port=int(given.get("DEMO_BASTION_PORT", "22")),
            username=user,
            password=password,
            host_key_policy="strict",
            timeout=30_000,
        )
    print(f"target = Connection({target_host!r}, username={user!r}, proxy_jump=bastion)")
    with timed("connected and logged in, in the bastion's session"):
        target = Connection(
            target_host,
            port=int(given.get("DEMO_TARGET_PORT", "22")),
            username=user,
            proxy_jump=bastion,
            host_key_policy="strict",
            timeout=30_000,
        )
    with bastion, target:
        print(f"target.execute({COMMAND!r})")
        with timed("executed"):
            result = target.execute(COMMAND)
        with timed("executed once more"):
            target.execute(COMMAND)
        print(f"\n{result.stdout}", end="", flush=True)
    info = build_info()
    print(
        f"\nBoth host keys were checked against known_hosts. Inside: libssh2 {info['libssh2']}"
        f" with {len(info['patches'])} patches of ours, OpenSSL {info['openssl_running']}.",
        flush=True,
    )
    return 0 if result.status == 0 and "hello from target" in result.stdout else 1


if __name__ == "__main__":
    sys.exit(main())
