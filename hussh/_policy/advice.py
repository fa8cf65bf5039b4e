"""Tells what to do about a failed connection, in one or two sentences for each cause.

`hussh.explain` appends this to the text of the error, which is the cause. If that text already says
what to do, the advice says where to look. Pure: an error is all that it looks at.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import (
    AuthenticationError,
    ConnectError,
    ConnectionClosed,
    ConnectionLost,
    ConnectTimeout,
    HostKeyError,
    HusshError,
    JumpRefused,
    KeyRefused,
    KeyUnreadable,
    NegotiationError,
    PassphraseRequired,
    ProtocolError,
    ProxyCommandError,
    ServerBusy,
    WrongPassphrase,
)

__all__ = ["advise"]

Advice = str | Callable[[HusshError], str]

_TIMEOUTS = {
    "queue": "Other logins at that server are under way: give more time, or log in fewer at once.",
    "dns": "The resolver does not answer: look at /etc/resolv.conf and the network.",
    "connect": "Nothing answers, not even a refusal: a firewall drops the packets, the address is"
    " wrong, or there is no route. The host may be reachable through a bastion only (proxy_jump=).",
    "proxy": "The proxy command did not bring a connection: run it by hand and see what it waits"
    " for.",
    "channel": "The bastion did not get an answer from there: its firewall drops the packets, or"
    " the address is wrong from where the bastion stands.",
    "banner": "Something listens there and says nothing: another service, a server that hangs, or"
    " one that looks up your address by a resolver which does not answer (UseDNS). Try the port"
    " with: nc host port.",
    "kex": "The server stopped in the key exchange. Where big packets get lost on the way (a VPN,"
    " PPPoE) look at the MTU; else look at the server's log.",
    "hostkey": "A file of known hosts cannot be read in time: see whether it lies on a mount whose"
    " server does not answer.",
    "auth": "The server did not answer the login in time: it may wait for its own directory (LDAP)"
    " or a resolver, or the ssh-agent waits for a touch or a confirmation here.",
}

_JUMPS = {
    1: "Ask the bastion's administrator to permit forwarding to this address (AllowTcpForwarding"
    " and PermitOpen in its sshd_config, permitopen= in authorized_keys).",
    2: "Log in on the bastion and try the address from there: the name must resolve there, the port"
    " must be that of the target's sshd, and no firewall may stand between.",
    3: "The bastion's server cannot forward at all: use another bastion, or a proxy_command.",
    4: "The bastion is out of channels or sockets: use fewer connections at once, or look at its"
    " limits.",
}

_HOST_KEYS = {
    "changed": "Ask the server's administrator for the fingerprint of its key. If it is the one"
    " above, remove the recorded line; if not, somebody stands between, so log in nowhere.",
    "revoked": "This key must not be trusted any more: the server has to get another one.",
    "weak": "The server should get a key of another type (ssh-keygen -A makes them).",
    "unknown": "Compare the fingerprint with what the server's administrator says, then record the"
    ' key: connect once with host_key_policy="accept-new", or add the line by hand.',
}


_PINNED = (
    "Ask the server's administrator for the fingerprint of its key. If it is the one above, name it"
    " in host_key=; if not, somebody stands between, so log in nowhere."
)


def _advise_on_timeout(error: HusshError) -> str:
    return _TIMEOUTS.get(error.phase or "", "Give more time, and look at the server's log.")


def _advise_on_jump(error: HusshError) -> str:
    code = error.reason_code if isinstance(error, JumpRefused) else 0
    return _JUMPS.get(code, "Look at the bastion's log.")


def _advise_on_host_key(error: HusshError) -> str:
    if "host_key= names" in error.text:
        return _PINNED
    if "given as host_key_policy=" in error.text:
        return "The function decided so: see why, or compare the fingerprint and let it accept it."
    reason = error.reason if isinstance(error, HostKeyError) and error.fingerprint else ""
    return _HOST_KEYS.get(reason, "Mend the file that the cause names, or name another one with"
                          " known_hosts=.")  # fmt: skip


def _advise_on_connect(error: HusshError) -> str:
    if error.phase == "dns":
        return (
            "Check the spelling. A name that only a bastion can resolve needs the bastion in"
            " proxy_jump=; an alias of ~/.ssh/config needs config=True."
        )
    if "refused" in error.text:
        return (
            "The host is there, and nothing listens on that port: is sshd running, and is it this"
            " port? A firewall may also refuse on the host's behalf."
        )
    return "There is no route to that address from here: is the network up, or a VPN needed?"


def _advise_on_login(error: HusshError) -> str:
    if not isinstance(error, AuthenticationError):
        return ""
    if "expired" in error.text:
        return "Log in once with ssh in a terminal and set a new password."
    if any(name.startswith("gssapi-with-mic") for name in error.tried):
        lacks = any(name.startswith("gssapi-with-mic (") for name in error.tried)
        was_asked = any("(the server's Kerberos" in name for name in error.tried)
        return _NO_TICKET if lacks and not was_asked else _TICKET_REFUSED
    if "more keys of the agent" in error.text:
        return "Name the key that the server knows with private_key=."
    if error.methods_left and not {"password", "keyboard-interactive"} & {*error.methods_left}:
        if any(name.startswith("password") for name in error.tried):
            return "The server takes no passwords: give a key with private_key=."
        return _REFUSED
    return (
        "Check the user's name first, since servers do not say that a user is unknown, then the"
        " credential. The server's log says more than it tells us."
    )


_NEGOTIATION = (
    "Name an algorithm that both sides have with the argument that the cause names, if it is good"
    " enough for you; better is a newer server."
)
_PROXY = (
    "Run the command by hand, with the host and port put in: it has to connect its stdin and stdout"
    " to the server and to print nothing else there."
)
_BUSY = (
    "Wait and try again with fewer connections at once. If it stays so, something else than sshd"
    " listens on that port, or access rules (hosts.deny, PerSourcePenalties) keep your address out."
)
_REFUSED = (
    "Put the public key into ~/.ssh/authorized_keys of that user on that hop; there the file"
    " and its folders must be writable by that user only. The server's log says why."
)
_TICKET_REFUSED = (
    "The ticket's owner must be permitted to log in as that user (~/.k5login there), and the server"
    " must have the key for its name (its keytab). The server's log says which."
)
_NO_TICKET = "Do what stands behind gssapi-with-mic; klist shows what tickets there are."
_LOST = (
    "The server, or something on the way, hung up: its log says why. Before the login this is often"
    " a rule for addresses or users, or another service on that port."
)
_NO_SSH = (
    "Something that is no SSH server answers there, or the stream was changed on the way: look at"
    " what listens on that port with: nc host port."
)

#: The first that fits counts, so a class stands before those that it is derived from.
_ADVICE: tuple[tuple[type[HusshError], Advice], ...] = (
    (ConnectTimeout, _advise_on_timeout),
    (JumpRefused, _advise_on_jump),
    (HostKeyError, _advise_on_host_key),
    (NegotiationError, _NEGOTIATION),
    (ProxyCommandError, _PROXY),
    (ServerBusy, _BUSY),
    (PassphraseRequired, "Give the passphrase as password=, or load the key with: ssh-add."),
    (WrongPassphrase, "password= is the key's passphrase where private_key= is given: mend it."),
    (
        KeyUnreadable,
        lambda error: (
            "Check the path, the file's mode and that it is the certificate."
            if error.text.startswith("certificate")
            else "Check the path, the file's mode and that it is the private key."
        ),
    ),
    (KeyRefused, _REFUSED),
    (AuthenticationError, _advise_on_login),
    (ConnectError, _advise_on_connect),
    (ConnectionLost, _LOST),
    (ConnectionClosed, "The connection that carries this one was closed here: open it again."),
    (ProtocolError, _NO_SSH),
)


def advise(error: HusshError) -> str:
    """Return what the user can do about an error that ended an attempt to connect."""
    for kind, advice in _ADVICE:
        if isinstance(error, kind):
            return advice if isinstance(advice, str) else advice(error)
    return "Do what the cause says."
