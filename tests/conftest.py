"""Fixtures for every test: an isolated environment, real servers, and the search for leftovers.

What they hand out lives in ``tests/support``. Everything is on loopback.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

from hussh._policy import server_memory
from tests.support import leaks, outside, selection
from tests.support.accounts import IS_ROOT, NEEDS_ROOT
from tests.support.agent import SshAgent
from tests.support.client import SshProgram
from tests.support.fido import FidoAgent, FidoKey
from tests.support.keys import KINDS, Keys
from tests.support.listeners import FullBacklog, MuteListener, SlowBanner
from tests.support.netns import Network
from tests.support.relay import Relay
from tests.support.sshd import Sshd
from tests.support.terminal import Terminal

_watch_key = pytest.StashKey[leaks.Watch]()


def pytest_configure(config: pytest.Config) -> None:
    """Register our markers; keep hypothesis from making files in this folder."""
    set_hypothesis_home_dir(tempfile.gettempdir())  # until tests run, which have another one
    settings.register_profile("hussh", database=None)
    settings.load_profile("hussh")
    config.addinivalue_line("markers", "needs_root: skipped unless the tests run as root")
    config.addinivalue_line("markers", "one_loop: the test does not depend on the kind of loop")
    config.addinivalue_line("markers", "long: runs with HUSSH_LONG=1 only; else it is deselected")
    config.addinivalue_line(
        "markers", "leaves_behind: the test leaves something behind on purpose; not searched"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only a long run has; skip what needs root where we are not."""
    selection.leave_out(config, items, selection.marked(items) | selection.columns(items))
    if IS_ROOT:
        return
    for item in items:
        if item.get_closest_marker("needs_root"):
            item.add_marker(pytest.mark.skip(reason=NEEDS_ROOT))


def pytest_collection_finish() -> None:
    """Let no search for garbage go through modules and collected tests: they are there to stay."""
    _freeze()


def _freeze() -> None:
    """Let later searches for garbage leave out what exists now and is no garbage.

    Tests that count objects call ``gc.collect`` hundreds of times, and each call took 0.2 s.
    No test may call ``gc.unfreeze``, which would end this for all that follow.
    """
    gc.collect()
    gc.freeze()


# Hooks and not a fixture: they surround every fixture of the test, whatever its scope or order.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note what exists before the first fixture of the test runs."""
    item.stash[_watch_key] = leaks.Watch(item.nodeid, outside.WATCHED)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, Any, Any]:
    """Fail the test that left something behind, after its last fixture is gone."""
    watch = item.stash[_watch_key]
    try:
        result = yield
    except BaseException:
        watch.settle()  # already failed: only clean up
        raise
    if nextitem is not None and nextitem.path != item.path:
        _freeze()  # what the libraries of this file keep: event loops, caches, modules
    left = watch.settle()
    if left and not item.get_closest_marker("leaves_behind"):
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let the controller of workers know what they left out."""
    selection.tell_controller(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear from a worker of pytest-xdist, in its controller, what it left out."""
    selection.hear_worker(node.config, getattr(node, "workeroutput", {}))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what was left out, and in one table what was skipped, and why."""
    if left_out := selection.summary(config):
        terminalreporter.section(left_out)
    counted = Counter(_reason(report) for report in terminalreporter.getreports("skipped"))
    if not counted:
        return
    skipped = counted.total()
    ran = sum(len(terminalreporter.getreports(outcome)) for outcome in ("passed", "failed"))
    terminalreporter.section(f"{skipped} skipped: {100 * skipped / (skipped + ran):.1f} %")
    for reason, count in counted.most_common():
        terminalreporter.write_line(f"{count:5}  {reason}")


def _reason(report: pytest.TestReport) -> str:
    """Return why a test was skipped."""
    _, _, reason = cast("tuple[str, int, str]", report.longrepr)
    return reason.removeprefix("Skipped: ")


@pytest.fixture(scope="session", autouse=True)
def _temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let temporary files of tests, servers and programs be made below pytest's own folder."""
    folder = tmp_path_factory.getbasetemp() / "t"  # short, because it holds sockets
    folder.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)  # it is looked for again
        set_hypothesis_home_dir(folder)
        yield


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test an empty HOME; return it. No agent, no display, no askpass program."""
    directory = tmp_path / "home"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(directory))
    for name in ("SSH_AUTH_SOCK", "SSH_AGENT_PID", "SSH_ASKPASS", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    return directory


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return what can be made stderr, with a terminal's variables set: it has 120 columns."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


@pytest.fixture(autouse=True)
def _forget_servers() -> None:
    """Forget what other servers did, because a port of theirs may be another server's now."""
    server_memory._known.clear()


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Return the session's key pairs, made when first asked for."""
    base = tmp_path_factory.getbasetemp()
    of_all_workers = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return Keys(tmp_path_factory.mktemp("keys"), of_all_workers / "made-keys")


@pytest.fixture
def sshd_factory(tmp_path: Path, keys: Keys) -> Iterator[Callable[..., Sshd]]:
    """Start servers of the test's own: arguments are those of ``Sshd`` after ``keys``."""
    with ExitStack() as servers:
        count = 0

        def start(**settings: Any) -> Sshd:
            nonlocal count
            count += 1
            settings.setdefault("name", f"server{count}")
            directory = tmp_path / f"sshd-{count}"
            return servers.enter_context(Sshd(directory, keys, **settings))

        yield start


def _shared(name: str, directory: Path, keys: Keys) -> Iterator[Sshd]:
    server = Sshd(directory / name, keys, name=name, host_keys=("ed25519", "ecdsa-256", "rsa"))
    for kind in KINDS:
        server.authorize(server.alice, keys.get(kind, name="alice"))
    with leaks.shared(server):
        yield server


@pytest.fixture(scope="session")
def _bastion_server(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[Sshd]:
    yield from _shared("bastion", tmp_path_factory.mktemp("shared"), keys)


@pytest.fixture(scope="session")
def _target_server(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[Sshd]:
    yield from _shared("target", tmp_path_factory.mktemp("shared"), keys)


@pytest.fixture
def bastion(_bastion_server: Sshd) -> Sshd:
    """Return the shared bastion, idle, its log empty; alice may use a key of every kind."""
    _bastion_server.settle()
    return _bastion_server


@pytest.fixture
def target(_target_server: Sshd) -> Sshd:
    """Return the shared target, idle, its log empty; alice may use a key of every kind."""
    _target_server.settle()
    return _target_server


@pytest.fixture
def ssh(tmp_path: Path) -> SshProgram:
    """Return OpenSSH's own client, cut off from any configuration."""
    return SshProgram(tmp_path)


@pytest.fixture
def agent_factory() -> Iterator[Callable[[], SshAgent]]:
    """Start ssh-agents that end with the test."""
    with ExitStack() as agents:

        def start() -> SshAgent:
            # Not below tmp_path: with a long test name that path would not fit a socket.
            directory = agents.enter_context(tempfile.TemporaryDirectory(prefix="agent-"))
            return agents.enter_context(SshAgent(Path(directory)))

        yield start


@pytest.fixture
def agent(agent_factory: Callable[[], SshAgent], monkeypatch: pytest.MonkeyPatch) -> SshAgent:
    """Return an empty agent that SSH_AUTH_SOCK names."""
    started = agent_factory()
    monkeypatch.setenv("SSH_AUTH_SOCK", os.fspath(started.socket))
    return started


@pytest.fixture
def fido_factory() -> Iterator[Callable[..., FidoAgent]]:
    """Start agents that hold these FIDO keys, each touched already unless ``touched=False``."""
    with ExitStack() as agents:

        def start(*keys: FidoKey, touched: bool = True) -> FidoAgent:
            directory = agents.enter_context(tempfile.TemporaryDirectory(prefix="agent-"))
            agent = FidoAgent(Path(directory), list(keys))
            if touched:
                agent.touch.set()
            return agents.enter_context(agent)

        yield start


@pytest.fixture
def relay_factory() -> Iterator[Callable[..., Relay]]:
    """Start relays to a server: ``relay_factory(sshd, **settings of Relay)``."""
    with ExitStack() as relays:

        def start(server: Sshd | MuteListener, **settings: Any) -> Relay:
            return relays.enter_context(Relay(server.host, server.port, **settings))

        yield start


@pytest.fixture
def mute_listener() -> Iterator[MuteListener]:
    """Return a peer that accepts and never speaks."""
    with MuteListener() as listener:
        yield listener


@pytest.fixture
def full_backlog() -> Iterator[FullBacklog]:
    """Return an address where ``connect`` hangs."""
    with FullBacklog() as listener:
        yield listener


@pytest.fixture
def slow_banner() -> Iterator[Callable[..., SlowBanner]]:
    """Start peers that send a banner byte by byte: arguments are those of ``SlowBanner``."""
    with ExitStack() as peers:
        yield lambda *given, **named: peers.enter_context(SlowBanner(*given, **named))


@pytest.fixture
def network() -> Iterator[Network]:
    """Return client, bastion and target places where only the bastion reaches the target."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(Network())
        except OSError as error:
            pytest.skip(f"needs network namespaces: {error}")
        yield made
