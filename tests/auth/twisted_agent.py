# mypy: ignore-errors
"""An agent of Twisted Conch: ``python twisted_agent.py SOCKET KEY`` says "ready", and serves.

It knows no extensions of the protocol: neither ``session-bind`` nor keys for some servers only.
"""

from __future__ import annotations

import sys

from twisted.conch.ssh.agent import SSHAgentServer
from twisted.conch.ssh.keys import Key
from twisted.internet import reactor
from twisted.internet.protocol import Factory


def main(socket: str, path: str) -> None:
    """Serve."""
    key = Key.fromFile(path)
    factory = Factory.forProtocol(SSHAgentServer)
    factory.keys = {key.blob(): (key, b"of twisted")}
    reactor.listenUNIX(socket, factory, wantPID=False)
    print("ready", flush=True)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
