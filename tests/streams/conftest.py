"""Servers and recordings that all tests of the stream share."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from hussh._native.kex_work import load_mlkem
from hussh._policy.algorithms import HYBRID
from hussh._policy.connection_options import add_defaults
from hussh._policy.keys.given_keys import parse_given_keys
from hussh._policy.options import Options
from tests.support import leaks
from tests.support.asyncssh_server import PASSWORD, asyncssh_server
from tests.support.keys import Keys
from tests.support.sshd import Sshd
from tests.support.streams_conversations import (
    LARGE,
    PARALLEL,
    SHORT,
    Conversation,
    Recorded,
    record,
)
from tests.support.streams_random import available


@pytest.fixture(autouse=True)
def _no_garbage() -> None:
    """Collect what earlier tests left in reference cycles: these tests count C objects."""
    gc.collect()


@pytest.fixture(scope="session")
def stream_servers(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[list[Sshd]]:
    """A target and a bastion with one host key each, so that recordings stay short."""
    folder = tmp_path_factory.mktemp("streams")
    kinds = {"stream-target": ("ed25519", "ecdsa-256"), "stream-bastion": ("ed25519",)}
    # OpenSSH 10 takes this exchange only if it is named.
    options = {"KexAlgorithms": "+diffie-hellman-group14-sha256"}
    servers = [
        Sshd(folder / name, keys, name=name, host_keys=hosts, options=options)
        for name, hosts in kinds.items()
    ]
    with leaks.shared(*servers):
        yield servers


@pytest.fixture(scope="session")
def hop_options(
    stream_servers: list[Sshd], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Options]:
    """Return what a client needs for the target (0) or the bastion (1), host keys known."""
    known_hosts = tmp_path_factory.mktemp("streams-known") / "known_hosts"
    known_hosts.write_text("".join(server.known_hosts_line() for server in stream_servers))

    def options(index: int) -> Options:
        server = stream_servers[index]
        return Options(
            host=server.host,
            port=server.port,
            username=server.alice.name,
            keys=parse_given_keys(server.alice.key.path),
            known_hosts=(str(known_hosts),),
            settings=add_defaults(agent=False, host_key_policy="strict"),
        )

    return options


@pytest.fixture(scope="session")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Options]:
    """Start a server that takes ML-KEM only; return what a client needs for it."""
    folder = tmp_path_factory.mktemp("streams-hybrid")
    with contextlib.ExitStack() as stack:
        with leaks.spared():
            port = stack.enter_context(asyncssh_server(folder, kex_algs=[HYBRID]))
        yield Options(
            host="127.0.0.1",
            port=port,
            username="alice",
            password=PASSWORD,
            settings=add_defaults(agent=False, host_key_policy="ignore"),
        )


@pytest.fixture(scope="session")
def conversations(hop_options: Callable[[int], Options], keys: Keys) -> dict[str, Conversation]:
    """Every conversation by name; ``small`` is the one that is searched byte by byte."""
    target, bastion = hop_options(0), hop_options(1)
    small = Conversation((target,), (SHORT,))
    stranger = replace(target, keys=parse_given_keys(keys.get("ed25519", name="stranger").path))
    ctr = {"ciphers": ("aes256-ctr",), "macs": ("hmac-sha2-256",)}
    return {
        "small": small,
        "gcm": small.with_algorithms(ciphers=("aes128-gcm@openssh.com",)),
        "ctr": small.with_algorithms(**ctr),
        "etm": small.with_algorithms(**{**ctr, "macs": ("hmac-sha2-512-etm@openssh.com",)}),
        "dh": small.with_algorithms(key_exchange=("diffie-hellman-group14-sha256",)),
        "zlib": small.with_algorithms(compression=True),
        "nist": small.with_algorithms(
            key_exchange=("ecdh-sha2-nistp256",), host_keys=("ecdsa-sha2-nistp256",)
        ),
        "refused": Conversation((stranger,), (SHORT,)),
        "nested": Conversation((bastion, target), (SHORT,)),
        "large": Conversation((target,), LARGE),
        "parallel": Conversation((target,), (SHORT,), PARALLEL),
        "nested-parallel": Conversation((bastion, target), (), PARALLEL),
    }


@pytest.fixture(scope="session")
def recorded(
    conversations: dict[str, Conversation],
    stream_servers: list[Sshd],
    request: pytest.FixtureRequest,
) -> Callable[[str], Recorded]:
    """Record a conversation when it is first asked for; return it by its name."""
    if not available():
        pytest.skip("the extension's OpenSSL is not one whose randomness can be replaced")
    load_mlkem()  # else what a client offers would change on the way
    made: dict[str, Recorded] = {}

    def get(name: str) -> Recorded:
        if name not in made:
            if name == "hybrid":  # only who asks for it needs that server
                hop = request.getfixturevalue("hybrid")
                conversation = Conversation((hop,), (SHORT,))
            else:
                conversation = conversations[name]
            first = conversation.hops[0]
            outcome, recording = record(conversation, (first.host, first.port))
            made[name] = Recorded(conversation, recording, outcome)
        return made[name]

    return get
