"""A proxy command in plain Python: stdin and stdout to a TCP connection and back.

Run by the tests as a program of its own, so that one real proxy is there on every machine. It
does on signals what a test wants to happen at a certain moment, and says in the file ``--ack``
when it is done.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import sys


def main() -> None:
    """Relay until either side ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--ack", help="a file to append words to")
    parser.add_argument("--noise", type=int, default=0, help="bytes for stderr while relaying")
    parser.add_argument("--burst", type=int, default=0, help="bytes for stderr on SIGUSR1")
    parser.add_argument("--deaf", action="store_true", help="close stdin on SIGUSR1")
    parser.add_argument("--mute", action="store_true", help="close stdout on SIGUSR1")
    parser.add_argument("--stubborn", action="store_true", help="end only by SIGKILL")
    given = parser.parse_args()
    noise = given.noise
    deaf = mute = False

    def say(word: str) -> None:
        if given.ack:
            with open(given.ack, "a") as file:
                file.write(word + "\n")

    def on_usr1(*_: object) -> None:
        nonlocal deaf, mute
        if given.deaf:
            deaf = True
            poller.unregister(0)
            os.close(0)
        if given.mute:
            mute = True
            os.close(1)
        _write(2, b"x" * given.burst)
        say("done")

    if given.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    peer = socket.create_connection((given.host, given.port))
    poller = select.poll()
    poller.register(0, select.POLLIN)
    poller.register(peer, select.POLLIN)
    signal.signal(signal.SIGUSR1, on_usr1)
    while True:
        for source, _ in poller.poll():
            if source == 0:
                if deaf:  # the call that the signal interrupted still had it
                    continue
                data = os.read(0, 65536)
                peer.sendall(data)
            else:
                data = peer.recv(65536)
                try:
                    _write(1, data)
                except OSError:
                    if not mute:  # else it was closed a moment ago, which is what was wanted
                        raise
            if not data:
                while given.stubborn:
                    signal.pause()
                return
            if noise > 0:
                part = min(noise, 65536)
                _write(2, b"noise\n" * (part // 6 + 1))
                noise -= part
                if noise <= 0:
                    say("noise is out")


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(str(error))
