"""paramiko as a server: commands by /bin/sh, an SFTP interface over os, forwards.

Run by `zoo.servers.paramiko_server`, in an environment that has paramiko. Arguments: host key file,
user, password, authorized_keys file, folder that is the home. Prints "ready PORT", ends with stdin.
"""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import paramiko
from paramiko import SFTPAttributes, SFTPHandle, SFTPServer

HOST_KEY, USER, PASSWORD, AUTHORIZED, HOME = sys.argv[1:6]
LINES = Path(AUTHORIZED).read_text().splitlines()
ALLOWED = [base64.b64decode(line.split()[1]) for line in LINES]


class Files(paramiko.SFTPServerInterface):
    """The file system, from HOME on for relative names."""

    def list_folder(self, path: str) -> Any:
        try:
            found = []
            for name in os.listdir(path):
                entry = SFTPAttributes.from_stat(os.lstat(os.path.join(path, name)))
                entry.filename = name
                found.append(entry)
            return found
        except OSError as error:
            return SFTPServer.convert_errno(error.errno)

    def canonicalize(self, path: str) -> str:
        return os.path.realpath(path)

    def stat(self, path: str) -> Any:
        return answer(lambda: SFTPAttributes.from_stat(os.stat(path)))

    def lstat(self, path: str) -> Any:
        return answer(lambda: SFTPAttributes.from_stat(os.lstat(path)))

    def open(self, path: str, flags: int, attributes: Any) -> Any:
        try:
            mode = attributes.st_mode if attributes.st_mode is not None else 0o666
            descriptor = os.open(path, flags, mode)
        except OSError as error:
            return SFTPServer.convert_errno(error.errno)
        handle = SFTPHandle(flags)
        how = "rb" if not flags & (os.O_WRONLY | os.O_RDWR) else "r+b"
        handle.readfile = handle.writefile = os.fdopen(descriptor, how)
        handle.stat = lambda: SFTPAttributes.from_stat(os.fstat(descriptor))
        handle.chattr = lambda attr: change(path, attr)
        return handle

    def remove(self, path: str) -> int:
        return done(lambda: os.remove(path))

    def rename(self, old: str, new: str) -> int:
        return done(lambda: os.rename(old, new))

    posix_rename = rename

    def mkdir(self, path: str, attributes: Any) -> int:
        return done(lambda: os.mkdir(path))

    def rmdir(self, path: str) -> int:
        return done(lambda: os.rmdir(path))

    def chattr(self, path: str, attributes: Any) -> int:
        return change(path, attributes)

    def symlink(self, target: str, path: str) -> int:
        return done(lambda: os.symlink(target, path))

    def readlink(self, path: str) -> Any:
        return answer(lambda: os.readlink(path))


def answer(call: Any) -> Any:
    """The call's result, or the error in SFTP's numbers."""
    try:
        return call()
    except OSError as error:
        return SFTPServer.convert_errno(error.errno)


def done(call: Any) -> int:
    """Success, or the error in SFTP's numbers."""
    error: int = answer(lambda: (call(), paramiko.SFTP_OK)[1])
    return error


def change(path: str, attributes: Any) -> int:
    """Set attributes as paramiko's own helper does."""
    return done(lambda: SFTPServer.set_file_attr(path, attributes))


class Server(paramiko.ServerInterface):
    """Lets the one user in; commands, subsystems and forwards are for him."""

    def get_allowed_auths(self, username: str) -> str:
        return "password,publickey"

    def check_auth_password(self, username: str, password: str) -> int:
        right = (username, password) == (USER, PASSWORD)
        return paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED

    def check_auth_publickey(self, username: str, key: Any) -> int:
        right = username == USER and key.asbytes() in ALLOWED
        return paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, number: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:
        threading.Thread(target=run, args=(channel, command), daemon=True).start()
        return True

    def check_channel_direct_tcpip_request(self, number: int, origin: Any, to: Any) -> int:
        try:
            self.forward = socket.create_connection(to)
        except OSError:
            return paramiko.OPEN_FAILED_CONNECT_FAILED
        return paramiko.OPEN_SUCCEEDED


def run(channel: Any, command: bytes) -> None:
    """Run one command with the three streams of the channel."""
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        ["/bin/sh", "-c", command], stdin=pipe, stdout=pipe, stderr=pipe, cwd=HOME
    )

    def feed() -> None:
        while data := channel.recv(65536):
            child.stdin.write(data)
            child.stdin.flush()
        child.stdin.close()

    def pass_on(source: Any, send: Any) -> None:
        while data := source.read1(65536):
            send(data)

    threading.Thread(target=feed, daemon=True).start()
    errors = threading.Thread(target=pass_on, args=(child.stderr, channel.sendall_stderr))
    errors.start()
    pass_on(child.stdout, channel.sendall)
    errors.join()
    channel.send_exit_status(child.wait())
    channel.shutdown_write()
    channel.close()


def join(channel: Any, peer: socket.socket) -> None:
    """Carry bytes between a channel and a socket until both have ended."""

    def up() -> None:
        while data := channel.recv(65536):
            peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)

    threading.Thread(target=up, daemon=True).start()
    while data := peer.recv(65536):
        channel.sendall(data)
    channel.close()
    peer.close()


def serve(client: socket.socket, key: Any) -> None:
    """Serve one client until it goes."""
    transport = paramiko.Transport(client)
    transport.packetizer.REKEY_BYTES = 1 << 20
    transport.add_server_key(key)
    transport.set_subsystem_handler("sftp", SFTPServer, Files)
    server = Server()
    try:
        transport.start_server(server=server)
    except (paramiko.SSHException, EOFError):
        return
    channels = []  # the transport itself holds them only weakly
    while transport.is_active():
        channel = transport.accept(1)
        channels.append(channel)
        if channel is not None and channel.get_name() and hasattr(server, "forward"):
            peer, server = server.forward, server
            del server.forward
            threading.Thread(target=join, args=(channel, peer), daemon=True).start()


def main() -> None:
    os.chdir(HOME)
    os.environ["HOME"] = HOME
    key = paramiko.Ed25519Key(filename=HOST_KEY)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print("ready", listener.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(client, key), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


main()
