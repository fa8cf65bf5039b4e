"""OpenSSH's ssh under ``xargs -P``; behind the bastion all go through one ControlMaster."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.folder = tempfile.TemporaryDirectory(prefix="hb-")
        host, port = bed["bastion"]
        common = (
            f" User {bed['user']}\n IdentityFile {bed['key']}\n IdentitiesOnly yes\n"
            f" UserKnownHostsFile {bed['known_hosts']}\n LogLevel ERROR\n"
        )
        self.configs = {}
        for way in ("direct", "jump"):
            path = self.configs[way] = Path(self.folder.name, way)
            text = f"Host bastion\n HostName {host}\n Port {port}\n"
            text += f" ControlPath {self.folder.name}/master\n"
            if way == "jump":
                text += f"Host 127.*\n ProxyCommand ssh -F {path} -W %h:%p bastion\n"
            path.write_text(f"{text}Host 127.*\n Port {bed['port']}\nHost *\n{common}")

    def work(self, way: str) -> None:
        hosts = self.bed["targets"]
        subprocess.run(
            ["xargs", "-P", str(len(hosts)), "-I", "{}",
             "ssh", "-n", "-F", str(self.configs[way]), "{}", "true"],
            input="\n".join(hosts),
            text=True,
            check=True,
        )  # fmt: skip

    def row_direct(self) -> None:
        self.work("direct")

    def row_jump(self) -> None:
        # Not in the background, so that its CPU time counts as a child's.
        master = subprocess.Popen(
            ["ssh", "-F", str(self.configs["jump"]), "-M", "-N",
             "-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo up", "bastion"],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert master.stdout is not None
        master.stdout.readline()
        try:
            self.work("jump")
        finally:
            master.terminate()
            master.communicate()

    def end(self) -> None:
        self.folder.cleanup()
