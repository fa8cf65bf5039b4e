"""Twisted Conch as a server: commands by /bin/sh, its Unix SFTP server, forwards.

Run by `zoo.servers.conch`, in an environment that has twisted[conch]. Arguments: host key file,
user, password, authorized_keys file, folder that is the home. Prints "ready PORT", ends with stdin.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.conch import avatar, interfaces, unix
from twisted.conch.checkers import InMemorySSHKeyDB, SSHPublicKeyChecker
from twisted.conch.ssh import factory, filetransfer, forwarding, keys, session
from twisted.cred import checkers, portal
from twisted.internet import reactor, stdio
from twisted.internet.protocol import Protocol
from twisted.python import components
from twisted.python.filepath import FilePath
from zope.interface import implementer

HOST_KEY, USER, PASSWORD, AUTHORIZED, HOME = sys.argv[1:6]


class Avatar(avatar.ConchUser):
    """The one user, without a change of accounts."""

    def __init__(self) -> None:
        super().__init__()
        self.channelLookup.update(
            {
                b"session": session.SSHSession,
                b"direct-tcpip": forwarding.openConnectForwardingClient,
            }
        )
        self.subsystemLookup[b"sftp"] = filetransfer.FileTransferServer

    def getUserGroupId(self) -> tuple[int, int]:
        return os.getuid(), os.getgid()

    def getHomeDir(self) -> FilePath[str]:
        return FilePath(HOME)

    def _runAsUser(self, f: Any, *args: Any, **kw: Any) -> Any:
        calls = f if isinstance(f, list) else [(f, args, kw)]
        result = None
        for call in calls:
            function, *rest = call
            given = rest[0] if rest else ()
            named = rest[1] if len(rest) > 1 else {}
            result = function(*given, **named)
        return result


@implementer(interfaces.ISession)
class Session:
    """Runs commands."""

    def __init__(self, user: Any) -> None:
        self.process: Any = None

    def execCommand(self, protocol: Any, command: bytes) -> None:
        self.process = reactor.spawnProcess(
            protocol, "/bin/sh", ["/bin/sh", "-c", command], env=os.environ, path=HOME
        )

    def getPty(self, *rest: Any) -> None:
        raise NotImplementedError

    def openShell(self, *rest: Any) -> None:
        raise NotImplementedError

    def eofReceived(self) -> None:
        if self.process is not None:
            self.process.closeStdin()

    def windowChanged(self, *rest: Any) -> None:
        pass

    def closed(self) -> None:
        pass


components.registerAdapter(Session, Avatar, interfaces.ISession)
components.registerAdapter(unix.SFTPServerForUnixConchUser, Avatar, filetransfer.ISFTPServer)


@implementer(portal.IRealm)
class Realm:
    """One avatar for whoever was let in."""

    def requestAvatar(self, name: bytes, mind: Any, *wanted: Any) -> Any:
        return wanted[0], Avatar(), lambda: None


class UntilStdinEnds(Protocol):
    """Ends the server with its stdin."""

    def connectionLost(self, reason: Any = None) -> None:
        if reactor.running:
            reactor.stop()


def main() -> None:
    os.chdir(HOME)
    os.environ["HOME"] = HOME
    key = keys.Key.fromFile(HOST_KEY)
    made = factory.SSHFactory()
    made.publicKeys = {key.sshType(): key.public()}
    made.privateKeys = {key.sshType(): key}
    passwords = checkers.InMemoryUsernamePasswordDatabaseDontUse(**{USER: PASSWORD.encode()})
    with open(AUTHORIZED, "rb") as file:
        allowed = [keys.Key.fromString(line) for line in file if line.strip()]
    public = SSHPublicKeyChecker(InMemorySSHKeyDB({USER.encode(): allowed}))
    made.portal = portal.Portal(Realm(), [passwords, public])
    port = reactor.listenTCP(0, made, interface="127.0.0.1")
    print("ready", port.getHost().port, flush=True)
    stdio.StandardIO(UntilStdinEnds())
    reactor.run()


main()
