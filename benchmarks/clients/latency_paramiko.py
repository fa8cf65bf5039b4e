"""paramiko with its defaults; the 20 targets in a thread each."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paramiko


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.kept: dict[str, Any] = {}

    def connect(self, name: str, carrier: Any = None, **more: Any) -> Any:
        host, port = self.bed[name]
        sock = carrier and carrier.get_transport().open_channel(
            "direct-tcpip", (host, port), ("127.0.0.1", 0)
        )
        client = paramiko.SSHClient()
        client.load_host_keys(self.bed["known_hosts"])
        options = {"key_filename": self.bed["key"], "allow_agent": False, **more}
        client.connect(host, port, self.bed["user"], sock=sock, look_for_keys=False,
                       timeout=60, **options)  # fmt: skip
        return client

    def run(self, client: Any) -> Any:
        _, stdout, _ = client.exec_command("true")
        assert stdout.channel.recv_exit_status() == 0
        return client

    def row_connect(self) -> Any:
        return self.connect("bastion")

    def row_connect_exec(self) -> Any:
        return self.run(self.connect("bastion"))

    def row_cold_jump(self) -> Any:
        return self.run(self.connect("target", self.connect("bastion")))

    def before_exec(self) -> Any:
        if "exec" not in self.kept:
            self.kept["exec"] = self.connect("bastion")
        return self.kept["exec"]

    def row_exec(self, client: Any) -> None:
        self.run(client)

    def before_exec_jump(self) -> Any:
        if "jump" not in self.kept:
            self.kept["jump"] = self.connect("target", self.connect("bastion"))
        return self.kept["jump"]

    row_exec_jump = row_exec

    def before_sftp(self) -> Any:
        return self.connect("bastion")

    def row_sftp(self, client: Any) -> Any:
        client.open_sftp().stat("/")
        return client

    def before_put(self) -> Any:
        if "sftp" not in self.kept:
            self.kept["sftp"] = self.connect("bastion").open_sftp()
        return self.kept["sftp"]

    before_get = before_put_tree = before_get_tree = before_put

    def row_put(self, sftp: Any) -> None:
        sftp.put(self.bed["small"], "put-paramiko")

    def row_get(self, sftp: Any) -> None:
        sftp.get(self.bed["remote_small"], str(Path(self.bed["local"], "got")))

    def row_put_tree(self, sftp: Any) -> None:
        if "tree-paramiko" not in sftp.listdir("."):
            sftp.mkdir("tree-paramiko")
        for name in os.listdir(self.bed["tree"]):
            sftp.put(os.path.join(self.bed["tree"], name), f"tree-paramiko/{name}")

    def row_get_tree(self, sftp: Any) -> None:
        place = Path(self.bed["local"], "tree")
        place.mkdir(exist_ok=True)
        for name in sftp.listdir(self.bed["remote_tree"]):
            sftp.get(f"{self.bed['remote_tree']}/{name}", str(place / name))

    def row_agent(self) -> Any:
        os.environ["SSH_AUTH_SOCK"] = self.bed["agent"]
        return self.connect("bastion", key_filename=None, allow_agent=True)

    def row_targets20(self) -> None:
        bastion = self.connect("bastion")

        def one(_: int) -> None:
            self.run(self.connect("target", bastion)).close()

        with ThreadPoolExecutor(20) as pool:
            list(pool.map(one, range(20)))
        bastion.close()

    def end(self) -> None:
        pass
