"""sftp(1) with its defaults; what connecting costs is measured apart and taken off."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="hb-")
        config = Path(self.folder.name, "config")
        text = (
            f"Host *\n User {bed['user']}\n IdentityFile {bed['key']}\n IdentitiesOnly yes\n"
            f" UserKnownHostsFile {bed['known_hosts']}\n LogLevel ERROR\n"
        )
        for way, hops in bed["ways"].items():
            name = ""
            for number, (host, port) in enumerate(hops):
                last = number == len(hops) - 1
                hop = way if last else f"{way}-{number}"
                text += f"Host {hop}\n HostName {host}\n Port {port}\n"
                if name:
                    text += f" ProxyCommand ssh -F {config} -W %h:%p {name}\n"
                name = hop
        config.write_text(text)
        self.command = ["sftp", "-q", "-F", str(config), "-b", "-"]
        self.connecting: dict[str, float] = {}

    def batch(self, way: str, line: str) -> float:
        start = time.perf_counter()
        subprocess.run(
            [*self.command, way], input=line + "\n", text=True, check=True, capture_output=True
        )
        return time.perf_counter() - start

    def connect(self, way: str) -> None:
        self.connecting[way] = min(self.batch(way, "pwd") for _ in range(3))

    def up(self, way: str, source: str, place: str) -> float:
        return self.batch(way, f"put {source} {place}") - self.connecting[way]

    def down(self, way: str, source: str, place: str) -> float:
        return self.batch(way, f"get {source} {place}") - self.connecting[way]
