"""The stage of the demonstration: two real sshds, and between them what networks there are.

For scripts/demo. The servers, accounts and networks are those of tests/support: they live in
namespaces of their own where root may make some, change nothing of the machine, and end with this
program, also when it is interrupted. The actor is scripts/demo_client.py, in a process of its own,
inside the client's network.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is something to clean up
TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from tests.support.accounts import OBSTACLE, Account  # noqa: E402 - needs the path
from tests.support.keys import Keys  # noqa: E402
from tests.support.netns import ADDRESSES, Network  # noqa: E402
from tests.support.sshd import Sshd  # noqa: E402

CLIENT = Path(__file__).with_name("demo_client.py")
CLIENT_SECONDS = 120.0
# The client's own /etc/hosts knows the bastion; the target's name only the bastion can resolve.
_WITH_HOSTS = 'mount -n --bind "$1" /etc/hosts && shift && exec "$@"'


def main() -> int:
    """Show what this machine allows; return the exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        with tempfile.TemporaryDirectory(prefix="hussh-demo-") as folder:
            path = Path(folder)
            path.chmod(0o711)
            why = "not root (try sudo)" if os.geteuid() != 0 else OBSTACLE
            if not OBSTACLE:
                with contextlib.ExitStack() as stack:
                    try:
                        network = stack.enter_context(Network())
                    except OSError as error:
                        why = str(error).splitlines()[-1]
                    else:
                        return in_namespaces(path, network)
            print(f"All is on loopback, because there are no namespaces: {why}.", end="\n\n")
            return on_loopback(path)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def in_namespaces(path: Path, network: Network) -> int:
    """Client, bastion and target on two networks that only the bastion joins."""
    keys = Keys(make(path / "keys"))
    target_address = ADDRESSES["target"]
    with contextlib.ExitStack() as stack:
        with network.enter("bastion"):
            bastion = stack.enter_context(
                Sshd(path / "bastion", keys, name="bastion", address=ADDRESSES["bastion"],
                     port=22, hosts={"target.internal": target_address})
            )  # fmt: skip
        with network.enter("target"):
            target = stack.enter_context(
                Sshd(path / "target", keys, name="target", address=target_address, port=22)
            )
        bastion.forget_keys(bastion.alice)  # its password it shall be
        hosts = path / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{ADDRESSES['bastion']} bastion\n")
        home = make_home(
            path,
            bastion.known_hosts_line("bastion", 22)
            + target.known_hosts_line("target.internal", 22),
            target.alice,
        )
        print(f"client   {ADDRESSES['client']}, its only neighbour is the bastion")
        print(f"bastion  {ADDRESSES['bastion']}, sshd; alice logs in with a password")
        print(f"target   {target_address}, sshd; alice logs in with ~/.ssh/id_ed25519", flush=True)
        with network.enter("client"):
            status = play(
                ["unshare", "--mount", "--", "sh", "-c", _WITH_HOSTS, "sh", str(hosts)],
                home,
                DEMO_BASTION="bastion",
                DEMO_TARGET="target.internal",
                DEMO_DIRECT=target_address,
                DEMO_USER=bastion.alice.name,
                DEMO_PASSWORD=bastion.alice.password,
            )
        report(bastion, status)
    return status


def on_loopback(path: Path) -> int:
    """Both servers on loopback: what works without any privilege."""
    keys = Keys(make(path / "keys"))
    names = {"target.internal": "127.0.0.2"}
    with (
        Sshd(path / "bastion", keys, name="bastion", hosts=names) as bastion,
        Sshd(path / "target", keys, name="target", address="127.0.0.2") as target,
    ):
        bastion.forget_keys(bastion.alice)  # its password it shall be
        home = make_home(
            path,
            bastion.known_hosts_line() + target.known_hosts_line("target.internal"),
            target.alice,
        )
        print(f"bastion  {bastion.host}:{bastion.port}, sshd; alice logs in with a password")
        print(f"target   {target.host}:{target.port}, sshd; alice logs in with ~/.ssh/id_ed25519")
        print("         its name, target.internal, only the bastion knows", flush=True)
        status = play(
            [],
            home,
            DEMO_BASTION=bastion.host,
            DEMO_BASTION_PORT=str(bastion.port),
            DEMO_TARGET="target.internal",
            DEMO_TARGET_PORT=str(target.port),
            DEMO_USER=bastion.alice.name,
            DEMO_PASSWORD=bastion.alice.password,
        )
        report(bastion, status)
    return status


def play(prefix: list[str], home: Path, **environment: str) -> int:
    """Run the client and return its exit status; it does not outlive us."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
    command = ["setpriv", "--pdeathsig", "KILL", "--", *prefix, sys.executable, str(CLIENT)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us, who then end it
        env={**given, **environment, "HOME": str(home), "PYTHONPATH": str(TOP)},
    ) as client:
        try:
            return client.wait(CLIENT_SECONDS)
        except BaseException:
            client.kill()
            raise


def report(bastion: Sshd, status: int) -> None:
    """Let the bastion tell its side."""
    if status:
        lines = [line for line in bastion.log_text().splitlines() if not line.startswith("debug1:")]
        print("the bastion's log:", *lines, sep="\n  ", file=sys.stderr)
        return
    bastion.wait_for_log("^(Disconnected|Connection closed)")
    logins = sum(login.accepted for login in bastion.authentications())
    asked = ", ".join(f"{host}:{port}" for _, (host, port) in bastion.forwards())
    print(f"The bastion's log: {logins} login, forwarded to {asked}.")


def make(folder: Path) -> Path:
    """Make a folder for us alone and return it."""
    folder.mkdir(mode=0o700)
    return folder


def make_home(path: Path, known_hosts: str, account: Account) -> Path:
    """Make the client's home: both host keys are recorded, and the account's key lies there."""
    home = make(path / "home")
    make(home / ".ssh")
    (home / ".ssh/known_hosts").write_text(known_hosts)
    (home / ".ssh/id_ed25519").write_text(account.key.text)
    (home / ".ssh/id_ed25519").chmod(0o600)
    return home


if __name__ == "__main__":
    sys.exit(main())
