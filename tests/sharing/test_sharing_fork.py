"""Fork, multiprocessing and the end of the interpreter with connections open."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sharing.conftest import ROOMY
from tests.sharing.helpers import LONG
from tests.support.processes import clean_environment
from tests.support.sshd import Sshd

SshdFactory = Callable[..., Sshd]
ROOT = str(Path(__file__).parents[2])

_BEGIN = """
import gc, os, sys, threading, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
import hussh
host, bastion_port, port, user, key = sys.argv[1:6]

def connect(port, **more):
    return hussh.Connection(
        host, int(port), user, private_key=key, agent=False, timeout=60_000, **more
    )

bastion = connect(bastion_port)
target = connect(port, proxy_jump=bastion)
"""

_FORKS = """
data = bytes(range(256)) * (4 << 12)
answers, stop = [], threading.Event()

def transfer():
    while not stop.is_set():
        answers.append(target.execute("cat", input=data).stdout_bytes == data)

def child():
    for use in (
        lambda: target.execute("true"),
        lambda: bastion.execute("true"),
        lambda: connect(port, proxy_jump=bastion),
        lambda: connect(1, proxy_jump=target),
    ):
        try:
            use()
        except hussh.ForkedConnectionError:
            pass
        else:
            sys.exit("the child could use its parent's connection")
    own = connect(port)
    assert own.execute("echo own").stdout == "own\\n"
    own.close()

def child_that_closes():
    target.close()
    bastion.close()

def child_that_drops():
    global target, bastion
    del target, bastion
    gc.collect()

def child_that_does_nothing():
    pass

kinds = [child, child_that_closes, child_that_drops, child_that_does_nothing]
thread = threading.Thread(target=transfer, daemon=True)
thread.start()
for number in range(int(sys.argv[6])):
    pid = os.fork()
    if pid == 0:
        kinds[number % 4]()
        raise SystemExit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        sys.exit(f"child {number} ended with {status}")
stop.set()
thread.join()
assert answers and all(answers), answers
assert bastion.execute("echo bastion").stdout == "bastion\\n"
assert target.execute("echo target").stdout == "target\\n"
print("good")
"""


def _python(
    code: str, bastion: Sshd, target: Sshd, *more: str, timeout: float = 90
) -> tuple[int, str, str, float]:
    """Run a program with two connections; exit code, output, errors and seconds."""
    alice = target.alice
    arguments = [target.host, bastion.port, target.port, alice.name, alice.key.path, *more]
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", _BEGIN + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=clean_environment(PYTHONPATH=ROOT, HOME="/nonexistent"),
        timeout=timeout,
    )
    return done.returncode, done.stdout, done.stderr, time.monotonic() - start


def test_forks_during_a_transfer(sshd_factory: SshdFactory) -> None:
    """Children of a fork amid a transfer can neither use nor harm what the parent has.

    Some use, close or collect their copies, all end as interpreters do, with every finalizer.
    """
    bastion, target = sshd_factory(), sshd_factory(options=ROOMY)
    status, output, errors, _ = _python(_FORKS, bastion, target, "100" if LONG else "8")
    assert (status, output, errors) == (0, "good\n", "")
    assert bastion.connections() == 1


_TOGETHER = """
import signal

def fork(*_):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

def many():
    for _ in range(25):
        fork()

def handler(*_):
    fork()
    signal.setitimer(signal.ITIMER_REAL, 0.01)  # not before: it shall not interrupt itself

threads = [threading.Thread(target=many) for _ in range(4)]
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.01)
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    assert target.execute("echo target").stdout == "target\\n"
signal.signal(signal.SIGALRM, signal.SIG_IGN)
for connection in (target, bastion):
    assert connection.execute("echo usable").stdout == "usable\\n"
print("good")
"""


def test_threads_that_fork_at_the_same_time(sshd_factory: SshdFactory) -> None:
    """Forks of several threads, and of a signal handler in the midst of a command, go through."""
    done = _python(_TOGETHER, sshd_factory(), sshd_factory(), timeout=40)
    assert done[:3] == (0, "good\n", "")


_POOL = """
import multiprocessing

def use(_):
    try:
        target.execute("true")
    except hussh.ForkedConnectionError:
        with connect(port) as own:
            return own.execute("echo own").stdout
    return "the parent's"

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(use, range(4)) == ["own\\n"] * 4
        pool.close()
        pool.join()
    assert target.execute("echo target").stdout == "target\\n"
    print("good")
"""


def test_multiprocessing(sshd_factory: SshdFactory) -> None:
    """Workers of a forked pool cannot use the parent's connection but make their own."""
    status, output, errors, _ = _python(_POOL, sshd_factory(), sshd_factory())
    assert (status, output, errors) == (0, "good\n", "")


_ENDS = {
    "idle": "print('good')",
    "running": """
def run(connection):
    connection.execute("echo begun; exec sleep 1000", timeout=0)
for connection in (bastion, target, target, bastion):
    threading.Thread(target=run, args=(connection,), daemon=True).start()
threading.Event().wait(float(sys.argv[6]))
print("good")
""",
    "transfers": """
def run(connection):
    while True:
        connection.execute("cat", input=bytes(1 << 20))
for connection in (bastion, target, target, bastion):
    threading.Thread(target=run, args=(connection,), daemon=True).start()
threading.Event().wait(float(sys.argv[6]))
print("good")
""",
    "connecting": """
def run():
    while True:
        connect(port, proxy_jump=bastion)
threading.Thread(target=run, daemon=True).start()
threading.Event().wait(float(sys.argv[6]))
print("good")
""",
    "cycle": """
cell = [bastion, target]
cell.append(cell)
class Holder:
    connection = target
    def __del__(self):
        self.connection.close()
cell.append(Holder())
print("good")
""",
    "sys.exit": """
threading.Thread(target=lambda: target.execute("exec sleep 1000"), daemon=True).start()
print("good")
sys.exit()
""",
}


@pytest.mark.parametrize("end", _ENDS)
def test_interpreter_ends(end: str, sshd_factory: SshdFactory) -> None:
    """A program ends with code 0, without a word, at once, whatever its connections do."""
    bastion, target = sshd_factory(options=ROOMY), sshd_factory(options=ROOMY)
    times = []
    for number in range(84 if LONG else 1):
        # Where in its work a thread is caught differs from run to run.
        wait = f"{number % 7 * 0.013:.3f}"
        status, output, errors, seconds = _python(_ENDS[end], bastion, target, wait)
        assert (status, output, errors) == (0, "good\n", "")
        times.append(seconds)
    if LONG:
        # The same work without an end of the interpreter: what that takes depends on the machine.
        abrupt = _ENDS[end].replace("sys.exit()", "") + "\nsys.stdout.flush(); os._exit(0)"
        *_, without_end = _python(abrupt, bastion, target, "0.039")
        assert min(times) < 2 * without_end + 1.5, (times, without_end)


def test_nothing_is_left_of_a_program(sshd_factory: SshdFactory) -> None:
    """The servers notice the end of a program that closed nothing."""
    bastion, target = sshd_factory(), sshd_factory()
    assert _python(_ENDS["running"], bastion, target, "0.2")[0] == 0
    bastion.wait_for_log(
        "^(Received disconnect|Disconnected from|Connection (closed|reset) by)|Broken pipe"
    )
