"""Servers that have no algorithm in common with us: the error says so, and its advice works."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from hussh import Connection, NegotiationError, ProtocolError, build_info
from hussh._native import kex_work
from hussh._native.constants import FAST_AES
from hussh._policy.algorithms import CIPHERS, HYBRID, KEY_EXCHANGE, MACS, order_ciphers
from tests.auth.steps import SshdFactory, login, refused
from tests.support.hostile import HostileServer, host_key, polite
from tests.support.sshd import Sshd

OUR_CIPHERS = order_ciphers(fast_aes=FAST_AES)
CASES = [
    ("kex", "key_exchange", KEY_EXCHANGE, "diffie-hellman-group14-sha1", "KexAlgorithms", {}),
    ("cipher", "ciphers", OUR_CIPHERS, "aes128-cbc", "Ciphers", {}),
    ("mac", "macs", MACS, "hmac-sha1", "MACs", {"Ciphers": "aes256-ctr"}),
]


@pytest.mark.parametrize(("kind", "argument", "ours", "only", "keyword", "more"), CASES)
def test_server_with_an_old_algorithm_only(
    kind: str,
    argument: str,
    ours: tuple[str, ...],
    only: str,
    keyword: str,
    more: dict[str, str],
    sshd_factory: SshdFactory,
) -> None:
    """The error lists both proposals and names the argument, with which the login works."""
    server = sshd_factory(options={keyword: only, **more})
    key: dict[str, Any] = {"private_key": server.alice.key.path}
    error = refused(server, **key)
    assert type(error) is NegotiationError
    assert isinstance(error, ProtocolError)
    assert (error.hop_index, error.phase) == (0, "kex")
    # Some servers put signals that are no algorithms into the list, too.
    assert error.theirs[kind].split(",")[0] == only
    assert error.ours[kind] == ",".join(ours)
    assert only in str(error)
    assert ",".join(ours) in str(error)
    assert f"{argument}=" in str(error)
    if kind != "kex":
        assert list(error.ours) == [kind]
    with login(server, **key, **{argument: [*ours, only]}) as connection:
        assert connection.execute("echo in").stdout == "in\n"


def test_server_with_another_host_key_only() -> None:
    """A server without a host key of a type that we were told to accept names that argument."""
    server = HostileServer(polite(), host_keys=(host_key("ecdsa"),))
    with server, pytest.raises(NegotiationError, match="host_key_algorithms=") as caught:
        Connection(*server.address, "alice", "x", host_key_algorithms=["ssh-ed25519"])
    assert caught.value.theirs == {"hostkey": "ecdsa-sha2-nistp256"}
    assert caught.value.ours == {"hostkey": "ssh-ed25519"}


def test_odd_names_of_a_server() -> None:
    """What a server lists is fit to print, and no more of it is repeated than can be read."""
    names = ["\x1b]0;own\x07", *(f"name{number}" for number in range(3000))]
    server = HostileServer(polite(), kex=names)
    with server, pytest.raises(NegotiationError) as caught:
        Connection(*server.address, "alice", "x")
    assert str(caught.value).isprintable()
    assert caught.value.theirs["kex"].startswith("]0;own ,name0,name1,")
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize(
    ("argument", "names"),
    [
        ("ciphers", ["aes256-ctr"]),
        ("ciphers", ["aes128-gcm@openssh.com"]),
        ("key_exchange", ["ecdh-sha2-nistp384"]),
        ("macs", ["hmac-sha2-512"]),
        ("host_key_algorithms", ["rsa-sha2-256"]),
    ],
)
def test_choice_is_kept(argument: str, names: list[str], target: Sshd) -> None:
    """What is given is what is offered and used, as the server's log tells."""
    options: dict[str, Any] = {argument: names}
    if argument == "macs":
        options["ciphers"] = ["aes256-ctr"]
    login(target, private_key=target.alice.key.path, **options).close()
    chosen = [each for each in target.log_text().splitlines() if each.startswith("debug1: kex: ")]
    assert any(names[0] in each for each in chosen)


def test_order_of_ciphers_suits_the_processor(target: Sshd) -> None:
    """AES-GCM comes first where the processor has instructions for it, else ChaCha20-Poly1305."""
    gcm = ("aes256-gcm@openssh.com", "aes128-gcm@openssh.com")
    assert order_ciphers(fast_aes=False) == CIPHERS
    assert CIPHERS[:3] == ("chacha20-poly1305@openssh.com", *gcm)
    assert order_ciphers(fast_aes=True) == (*gcm, CIPHERS[0], *CIPHERS[3:])
    login(target, private_key=target.alice.key.path).close()
    assert f"debug1: kex: client->server cipher: {OUR_CIPHERS[0]} " in target.log_text()


def test_choice_is_kept_behind_a_busy_bastion(bastion: Sshd, target: Sshd) -> None:
    """Another thread that keeps the bastion's connection busy cannot start a key exchange early.

    It serves the new connection, too, from the moment that there is one.
    """
    stop = threading.Event()
    logins = 12
    with login(bastion, private_key=bastion.alice.key.path) as way:

        def keep_busy() -> None:
            while not stop.is_set():
                way.execute("head -c 100000 /dev/zero")

        thread = threading.Thread(target=keep_busy)
        thread.start()
        try:
            for _ in range(logins):
                login(
                    target,
                    private_key=target.alice.key.path,
                    proxy_jump=way,
                    ciphers=["aes256-ctr"],
                    host_key_algorithms=["rsa-sha2-256"],
                ).close()
        finally:
            stop.set()
            thread.join()
    log = target.log_text()
    assert log.count("debug1: kex: host key algorithm: rsa-sha2-256") == logins
    assert log.count("debug1: kex: client->server cipher: aes256-ctr") == logins


def test_nothing_computes_ml_kem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ML-KEM the other key exchanges are offered; a list of it alone is an error."""
    monkeypatch.setattr(kex_work, "_source", None)
    monkeypatch.setattr(kex_work, "_is_loaded", True)
    assert build_info()["mlkem"] == "none"
    with (
        HostileServer(polite()) as server,
        Connection(*server.address, "alice", "x", host_key_policy="ignore") as connection,
    ):
        assert connection.algorithms[-1].key_exchange == "curve25519-sha256"
        assert HYBRID not in server.conns[0].client_kexinit[0]
        assert set(KEY_EXCHANGE) - {HYBRID} < set(server.conns[0].client_kexinit[0])
        with pytest.raises(NegotiationError, match="cryptography 47") as caught:
            Connection(*server.address, "alice", "x", key_exchange=[HYBRID])
        assert caught.value.ours == {"kex": HYBRID}
        assert caught.value.phase == "kex"


def test_where_ml_kem_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for once; what cannot be imported, or cannot make a key, is none."""
    monkeypatch.setattr(kex_work, "_source", None)
    monkeypatch.setattr(kex_work, "_private_key", None)
    name = "cryptography.hazmat.primitives.asymmetric.mlkem"
    with monkeypatch.context() as old:
        old.setitem(sys.modules, name, None)
        old.setattr(kex_work, "_is_loaded", False)
        kex_work.load_mlkem()
        assert kex_work.is_mlkem_loaded()
        assert kex_work.get_mlkem_source() is None
    pytest.importorskip(name)
    monkeypatch.setattr(kex_work, "_is_loaded", False)
    kex_work.load_mlkem()
    assert kex_work.get_mlkem_source() == "cryptography"
