"""OpenSSH's ssh; "an open connection" is a ControlMaster, "connect" is starting one."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="hb-")
        self.config = Path(self.folder.name, "config")
        hosts = [("bastion", None), ("middle", "bastion"), ("target", "bastion"),
                 ("deep", "middle"), ("fresh", "bastion")]  # fmt: skip
        text = (
            f"Host *\n User {bed['user']}\n IdentityFile {bed['key']}\n IdentitiesOnly yes\n"
            f" UserKnownHostsFile {bed['known_hosts']}\n LogLevel ERROR\n"
        )
        for name, jump in hosts:
            host, port = bed["target" if name in ("deep", "fresh") else name]
            text += f"Host {name}\n HostName {host}\n Port {port}\n"
            if jump:
                text += f" ProxyCommand {self.ssh_text()} -S {self.socket(jump)} -W %h:%p {jump}\n"
        host, port = bed["target"]
        text += f"Host cold\n HostName {host}\n Port {port}\n"
        text += f" ProxyCommand {self.ssh_text()} -S none -W %h:%p bastion\n"
        self.config.write_text(text)
        for name in ("bastion", "middle", "target", "deep"):
            self.master(name)

    def ssh_text(self) -> str:
        return f"ssh -F {self.config}"

    def socket(self, name: str) -> str:
        return str(Path(self.folder.name, name))

    def ssh(self, *arguments: str) -> None:
        subprocess.run(
            ["ssh", "-F", str(self.config), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def master(self, name: str, socket: str | None = None) -> None:
        self.ssh("-M", "-S", socket or self.socket(name), "-fN", name)

    def stop(self, name: str) -> None:
        subprocess.run(
            ["ssh", "-F", str(self.config), "-S", self.socket(name), "-O", "exit", "bastion"],
            check=False,
            stderr=subprocess.DEVNULL,
        )

    def true(self, name: str) -> None:
        self.ssh("-S", self.socket(name), name, "true")

    def row_connect(self) -> None:
        self.master("bastion", self.socket("another"))

    def after_connect(self, _: None) -> None:
        self.stop("another")

    def row_exec(self) -> None:
        self.true("bastion")

    def row_exec_jump(self) -> None:
        self.true("target")

    def row_exec_chain3(self) -> None:
        self.true("deep")

    def before_first_exec_inner(self) -> str:
        self.master("fresh")
        return "fresh"

    def row_first_exec_inner(self, name: str) -> str:
        self.true(name)
        return name

    def after_first_exec_inner(self, name: str) -> None:
        self.stop(name)

    def row_cold_jump(self) -> None:
        self.ssh("-S", "none", "cold", "true")

    def end(self) -> None:
        for name in ("deep", "target", "middle", "bastion"):
            self.stop(name)
        self.folder.cleanup()
