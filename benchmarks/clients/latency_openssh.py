"""OpenSSH's ssh and sftp; "an open connection" is a ControlMaster, "connect" is starting one."""

from __future__ import annotations

import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.folder = tempfile.TemporaryDirectory(prefix="hb-")
        self.config = Path(self.folder.name, "config")
        self.masters: list[str] = []
        self.sftp: subprocess.Popen[str] | None = None
        text = (
            f"Host *\n User {bed['user']}\n"
            f" UserKnownHostsFile {bed['known_hosts']}\n LogLevel ERROR\n"
            f"Host *-agent\n IdentityAgent {bed['agent']}\n"
            f"Host * !*-agent\n IdentityFile {bed['key']}\n IdentitiesOnly yes\n"
        )
        for name in ("bastion", "bastion-agent", "target"):
            host, port = bed[name.removesuffix("-agent")]
            text += f"Host {name}\n HostName {host}\n Port {port}\n"
        text += f"Host target\n ProxyCommand ssh -F {self.config} -S none -W %h:%p bastion\n"
        host, port = bed["target"]
        text += f"Host shared\n HostName {host}\n Port {port}\n"
        text += f" ProxyCommand ssh -F {self.config} -S {self.socket('carrier')} -W %h:%p bastion\n"
        self.config.write_text(text)

    def socket(self, name: str) -> str:
        return str(Path(self.folder.name, name))

    def ssh(self, *arguments: str) -> None:
        null = subprocess.DEVNULL
        subprocess.run(
            ["ssh", "-F", str(self.config), *arguments], check=True, stdin=null, stdout=null
        )

    def master(self, name: str, host: str) -> str:
        if name not in self.masters:
            self.ssh("-M", "-S", self.socket(name), "-fN", host)
            self.masters.append(name)
        return self.socket(name)

    def stop(self, name: str) -> None:
        self.masters.remove(name)
        subprocess.run(
            ["ssh", "-F", str(self.config), "-S", self.socket(name), "-O", "exit", "bastion"],
            check=False,
            stderr=subprocess.DEVNULL,
        )

    def row_connect(self) -> str:
        self.master("another", "bastion")
        return "another"

    def after_connect(self, name: str) -> None:
        self.stop(name)

    after_agent = after_connect

    def row_connect_exec(self) -> None:
        self.ssh("-S", "none", "bastion", "true")

    def row_cold_jump(self) -> None:
        self.ssh("-S", "none", "target", "true")

    def before_exec(self) -> str:
        return self.master("bastion", "bastion")

    def row_exec(self, socket: str) -> None:
        self.ssh("-S", socket, "bastion", "true")

    def before_exec_jump(self) -> str:
        return self.master("target", "target")

    def row_exec_jump(self, socket: str) -> None:
        self.ssh("-S", socket, "target", "true")

    def before_sftp(self) -> list[str]:
        socket = self.master("bastion", "bastion")
        return ["sftp", "-q", "-F", str(self.config), "-o", f"ControlPath={socket}"]

    def row_sftp(self, command: list[str]) -> None:
        subprocess.run(
            [*command, "-b", "-", "bastion"], input="ls -l /etc/passwd\n", text=True, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def before_put(self) -> Any:
        if self.sftp is None:
            pipe = subprocess.PIPE
            self.sftp = subprocess.Popen(
                [*self.before_sftp(), "bastion"], stdin=pipe, stdout=pipe, text=True
            )
            self.say("pwd")
        return None

    before_get = before_put_tree = before_get_tree = before_put

    def say(self, line: str) -> None:
        """Give sftp a command and wait until it is done."""
        assert self.sftp is not None
        assert self.sftp.stdin is not None
        assert self.sftp.stdout is not None
        self.sftp.stdin.write(f"{line}\n!echo finished\n")
        self.sftp.stdin.flush()
        while (line := self.sftp.stdout.readline().strip()) != "finished":
            if not line and self.sftp.poll() is not None:
                raise OSError("sftp has ended")

    def row_put(self) -> None:
        self.say(f"put {self.bed['small']} put-openssh")

    def row_get(self) -> None:
        self.say(f"get {self.bed['remote_small']} {self.bed['local']}/got")

    def row_put_tree(self) -> None:
        self.say(f"put -R {self.bed['tree']} tree-openssh")

    def row_get_tree(self) -> None:
        self.say(f"get -R {self.bed['remote_tree']} {self.bed['local']}/tree")

    def row_agent(self) -> str:
        self.master("agent", "bastion-agent")
        return "agent"

    def row_targets20(self) -> None:
        self.master("carrier", "bastion")
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda _: self.ssh("-S", "none", "shared", "true"), range(20)))

    def after_targets20(self, _: None) -> None:
        self.stop("carrier")

    def end(self) -> None:
        if self.sftp is not None:
            self.sftp.kill()
            self.sftp.wait()
        for name in list(self.masters):
            self.stop(name)
        self.folder.cleanup()
