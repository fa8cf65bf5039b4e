# mypy: ignore-errors
"""A bastion of Twisted Conch: ``python twisted_bastion.py`` prints its port, and serves.

The user is alice, her password secret. It grants every way before it has connected to its end.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.avatar import ConchUser
from twisted.conch.interfaces import IConchUser
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.forwarding import openConnectForwardingClient
from twisted.conch.ssh.keys import Key
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor
from zope.interface import implementer


class Avatar(ConchUser):
    """May open ways, and nothing else."""

    def __init__(self) -> None:
        """Allow it."""
        super().__init__()
        self.channelLookup[b"direct-tcpip"] = openConnectForwardingClient


@implementer(IRealm)
class Realm:
    """Everybody is such a user."""

    def requestAvatar(self, *_: object) -> tuple[object, ...]:
        """Return what Twisted asks for."""
        return IConchUser, Avatar(), lambda: None


def main() -> None:
    """Serve."""
    key = Key(Ed25519PrivateKey.generate())
    factory = SSHFactory()
    factory.privateKeys = {b"ssh-ed25519": key}
    factory.publicKeys = {b"ssh-ed25519": key.public()}
    checker = InMemoryUsernamePasswordDatabaseDontUse(alice=b"secret")
    factory.portal = Portal(Realm(), [checker])
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
