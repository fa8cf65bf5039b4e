"""The example of docs/many-hosts.md for a distributed engine, as it is printed there."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import clean_environment
from tests.support.sshd import Sshd

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "many-hosts.md"
TARGETS = 200 if os.environ.get("HUSSH_LONG") == "1" else 50

# A worker dies in the middle: what it was doing is done again by another.
MAIN = """
import json, os, signal, sys
from {module} import Client, cluster, run_everywhere

def main():
    hosts, options = json.loads(sys.argv[1])
    dead = []
    with cluster(2) as engine, Client(engine) as client:
        before = set(client.run(os.getpid).values())
        def kill_one(shard):
            if not dead:
                dead.append(min(before))
                os.kill(dead[0], signal.SIGKILL)
        result = run_everywhere(client, hosts, "echo $PPID", on_shard=kill_one, **options)
        again = run_everywhere(client, hosts[:1], "echo again", **options)
        after = set(client.run(os.getpid).values())
    print(json.dumps({{
        "hosts": result.keys() == hosts, "bad": len(result.failed or ()),
        "again": again.values()[0].stdout, "killed": dead[0] not in after,
    }}))

if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="needs the package distributed"
)
def test_many_targets_on_dask_workers(sshd_factory: Callable[..., Sshd], tmp_path: Path) -> None:
    """All have results although a worker is killed; the bastion sees a login per worker."""
    (example,) = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "shards.py").write_text(example)
    (tmp_path / "main.py").write_text(MAIN.format(module="shards"))
    target = sshd_factory(pam=None, options={"LogLevel": "INFO"})
    names = {f"t{number:03}": target.host for number in range(TARGETS)}
    bastion = sshd_factory(pam=None, hosts=names)
    options = {
        "username": "alice",
        "key_path": str(target.alice.key.path),
        "port": target.port,
        "proxy_jump": f"{bastion.host}:{bastion.port}",
        "timeout": 60,
    }
    done = subprocess.run(
        [sys.executable, "main.py", json.dumps([list(names), options])],
        cwd=tmp_path,
        env=clean_environment() | {"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"hosts": True, "bad": 0, "again": "again\n", "killed": True}
    logins = sum(attempt.accepted for attempt in bastion.authentications())
    assert 2 <= logins <= 4, "one per worker: two, the one that replaced the dead, the second run"
