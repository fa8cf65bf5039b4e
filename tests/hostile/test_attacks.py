"""Every attack of the catalogue ends in an error of ours, or does no harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.hostile.client_process import ClientProcess
from tests.support import hostile_catalogue as catalogue
from tests.support import hostile_wire as wire
from tests.support.hostile import CIPHERS, Channel, Conn, HostileServer, Refuse, polite
from tests.support.hostile_transport import HYBRID

Attack = catalogue.Attack[Conn]
ETM = "hmac-sha2-256-etm@openssh.com"
#: Milliseconds for what may rightly end by the clock.
SOON = 300


def stalling(phase: str, act: Callable[[Conn], object]) -> Callable[[Conn], None]:
    """Polite up to the phase, then the act, then silence."""

    def script(conn: Conn) -> None:
        catalogue.until(phase, act)(conn)
        conn.wait_closed()

    return script


@pytest.mark.parametrize("attack", catalogue.VERSIONS, ids=str)
def test_bad_versions(client: ClientProcess, attack: Attack) -> None:
    """Wrong versions, over-long lines and endless greetings are refused or time out."""

    def script(conn: Conn) -> None:
        attack.act(conn)
        conn.wait_closed()

    with HostileServer(script) as server:
        outcome = client.connect_to(server, timeout=20_000 if attack.fatal else SOON)
    assert outcome.typed
    assert outcome.where == "connect"
    assert outcome.refused or not attack.fatal


@pytest.mark.parametrize("attack", catalogue.KEX, ids=str)
def test_tampered_key_exchange(client: ClientProcess, attack: catalogue.KexAttack) -> None:
    """No tampered key exchange leads to a credential being sent."""
    with HostileServer(polite(tamper=attack.tamper)) as server:
        outcome = client.connect_to(server, "echo never")
        conn = server.wait()
    assert outcome.refused, outcome
    assert outcome.where == "connect"
    assert not {5, 50} & set(conn.received)


@pytest.mark.parametrize("attack", catalogue.HYBRID_KEX, ids=str)
def test_tampered_hybrid_key_exchange(client: ClientProcess, attack: catalogue.KexAttack) -> None:
    """The same with ML-KEM: wrong lengths, other ciphertexts, points that make a known secret."""
    with HostileServer(polite(tamper=attack.tamper), kex=[HYBRID]) as server:
        outcome = client.connect_to(server, "echo never")
        conn = server.wait()
    assert outcome.refused, outcome
    assert outcome.where == "connect"
    assert not {5, 50} & set(conn.received)


def test_hybrid_key_exchange(client: ClientProcess) -> None:
    """A server that takes mlkem768x25519-sha256 and nothing else runs a command."""
    with HostileServer(polite(), kex=[HYBRID]) as server:
        outcome = client.connect_to(server, "echo right")
    assert outcome.results == [("right\n", "", 0)], outcome
    assert server.wait().negotiated["kex"] == HYBRID


@pytest.mark.parametrize("attack", catalogue.AUTH, ids=str)
def test_malformed_answers_to_the_login(client: ClientProcess, attack: Attack) -> None:
    """Malformed authentication messages never log anybody in."""
    with HostileServer(stalling("auth", attack.act)) as server:
        outcome = client.connect_to(server, "echo never", timeout=20_000 if attack.fatal else SOON)
    assert outcome.typed, outcome
    assert outcome.where == "connect"
    assert outcome.refused or not attack.fatal


FATAL = [attack for attack in catalogue.PACKETS if attack.fatal]
FRAMING = [one for one in FATAL if one.name.startswith(("packet", "length", "padding", "corrupt"))]


@pytest.mark.parametrize(
    ("cipher", "attack"),
    [
        *((CIPHERS[0], one) for one in FATAL),
        *((cipher, one) for cipher in ("aes256-gcm@openssh.com", "aes128-ctr") for one in FRAMING),
        *((ETM, one) for one in FRAMING),
    ],
    ids=str,
)
def test_malformed_packets_in_a_session(client: ClientProcess, cipher: str, attack: Attack) -> None:
    """Each malformed packet that must be fatal ends the command with an error, at once."""
    chosen: dict[str, Any] = {"ciphers": [cipher], "macs": ["hmac-sha2-256"]}
    if cipher == ETM:
        chosen = {"ciphers": ["aes256-ctr"], "macs": [ETM]}
    with HostileServer(stalling("exec", attack.act), **chosen) as server:
        outcome = client.connect_to(server, "never", **chosen)
        server.wait()
    assert outcome.refused, outcome
    assert outcome.where == "execute"
    assert outcome.results == []


@pytest.mark.parametrize("attack", FATAL, ids=str)
def test_malformed_packets_before_the_login(client: ClientProcess, attack: Attack) -> None:
    """The same from somebody who is not yet known to be the server's owner."""
    with HostileServer(stalling("kex", attack.act)) as server:
        outcome = client.connect_to(server, "never")
    assert outcome.refused, outcome
    assert outcome.where == "connect"


#: A control sequence in one character, and what turns the direction of the writing.
TRICKS = "\u009b2J\u202egood\u2028news\x1b[0m"


def test_words_of_a_server_are_fit_to_print(client: ClientProcess) -> None:
    """What a server gives as its reason can neither move a cursor nor turn the writing."""

    def farewell(conn: Conn) -> None:
        conn.send_packet(wire.disconnect(2, TRICKS.encode()))
        conn.wait_closed()

    def refusal(conn: Conn) -> None:
        conn.refuse(conn.next_open(), Refuse(text=TRICKS))
        conn.wait_closed()

    for say in (farewell, refusal):
        with HostileServer(polite(after_auth=say)) as server:
            outcome = client.connect_to(server, "never")
        assert outcome.typed, outcome
        assert "good news" in outcome.text
        assert outcome.text.isprintable(), repr(outcome.text)


ODD = [attack for attack in catalogue.PACKETS if not attack.fatal]


@pytest.mark.parametrize("attack", ODD, ids=str)
def test_odd_packets(client: ClientProcess, attack: Attack) -> None:
    """What need not be fatal either is, or changes nothing."""
    with HostileServer(polite(after_auth=attack.act)) as server:
        outcome = client.connect_to(server, "echo right", timeout=2000)
    if attack.fatal is False or not outcome.kinds:
        assert outcome.results == [("right\n", "", 0)], outcome
    else:
        assert outcome.typed, outcome
        assert outcome.results == []


@pytest.mark.parametrize("attack", catalogue.CHANNELS, ids=str)
def test_hostile_channel_messages(client: ClientProcess, attack: catalogue.Attack[Channel]) -> None:
    """Whatever comes on a channel, the command ends, and with nothing that was not sent."""

    def attacking(channel: Channel, command: str) -> None:
        attack.act(channel)
        channel.finish(8)

    with HostileServer(polite(execute=attacking)) as server:
        outcome = client.connect_to(server, "true", timeout=5000)
    if outcome.kinds:
        assert outcome.refused, outcome
    else:
        ((out, err, status),) = outcome.results
        assert out.strip("x\0") in ("", "late")
        assert err == ""
        assert status in (8, -1, 0xFFFFFFFF)


@pytest.mark.parametrize("phase", catalogue.PHASES)
def test_hanging_up_in_every_phase(client: ClientProcess, phase: str) -> None:
    """A server that goes away is a connection that is lost, not one that is late."""
    with HostileServer(catalogue.until(phase, lambda conn: None)) as server:
        outcome = client.connect_to(server, "never")
    assert outcome.refused, outcome
    assert "ConnectionError" in outcome.kinds, outcome


@pytest.mark.parametrize("phase", catalogue.PHASES)
def test_silence_in_every_phase(client: ClientProcess, phase: str) -> None:
    """A server that says nothing more is waited for as long as the user said."""
    with HostileServer(catalogue.until(phase, Conn.wait_closed)) as server:
        outcome = client.connect_to(server, "never", timeout=SOON)
    assert outcome.typed
    assert outcome.is_timeout, outcome
    assert outcome.seconds < 10


def test_a_command_that_fits_into_no_packet(client: ClientProcess) -> None:
    """What is too long for the protocol costs the command, not the connection."""
    with HostileServer() as server:
        outcome = client.connect_to(server, "x" * 262_013)
        conn = server.wait()
    assert outcome.kinds[0] == "ChannelError", outcome
    assert conn.disconnect == (11, "disconnected by user")  # it could still say goodbye
