"""The options of a connection: declared in one place, and shown, checked and used everywhere.

Opens nothing; one test runs a changed copy of the package.
"""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import hussh
from hussh import Connection
from hussh._api.check_options import CHECKS
from hussh._api.plan import OF_TARGET, make_plan
from hussh._multi.multi_options import MultiOptions
from hussh._policy.connection_options import ARGUMENTS, ConnectionOptions, read_declared
from hussh._policy.options import Options
from hussh.aio import AsyncConnection
from hussh.multi_conn import MultiConnection

#: Everything that takes the options of a connection.
TAKERS: list[Any] = [Connection, AsyncConnection, MultiConnection.from_shared_auth]
#: Option -> a value that is not its default, and one that is refused.
VALUES: dict[str, tuple[Any, Any]] = {
    "config": ("/a/file", 3),
    "known_hosts": (("/one", "/two"), 3),
    "host_key_policy": ("strict", "maybe"),
    "host_key": ("SHA256:" + 43 * "A", "SHA256:AAAA"),
    "host_key_alias": ("alias", "an alias"),
    "bind_address": ("127.0.0.1", "localhost"),
    "family": ("inet6", "ipv4"),
    "certificate": ("/a/certificate", 3),
    "gssapi": (True, "a name"),
    "agent": (False, 3),
    "prompt": (lambda request: [""], 3),
    "on_banner": (print, 3),
    "allow_empty_password": (True, "yes"),
    "compression": (True, None),  # taken by its truth
    "ciphers": (("aes128-ctr",), ["rot13"]),
    "key_exchange": (("ecdh-sha2-nistp256",), ["none"]),
    "macs": (("hmac-sha2-512",), "hmac-sha2-512"),
    "host_key_algorithms": (("ssh-ed25519",), []),
    "rekey_interval": (3600, 0.5),
    "required_rsa_size": (3072, True),
    "sftp_requests": (3, 0),
    "spare_channel": (False, "no"),
    "sftp_open_files": (1, True),
    "stream": (("reader", "writer"), 3),
}
OPTIONS = read_declared(ConnectionOptions)


def hops(taker: Any, **given: Any) -> tuple[Options, ...]:
    """Return what each hop of a way with two bastions would be given; opens nothing."""
    if taker is Connection:
        first = {"port": 22, "username": "u", "password": None, "private_key": None}
        return make_plan(
            Connection, "a Connection", host="c", proxy_jump="a,b", proxy_command=None,
            keepalive_interval=0, options=given, **first,  # type: ignore[arg-type]
        ).hops  # fmt: skip
    if taker is AsyncConnection:
        return AsyncConnection("c", proxy_jump="a,b", **given)._plan.hops
    multi = MultiConnection.from_shared_auth(["c"], proxy_jump="a,b", **given)
    plan = multi._group.members[0].connection._plan
    if plan.bastion is None:  # shared where the configuration has been asked
        return plan.hops
    return (*plan.bastion._plan.hops, *plan.hops)


@pytest.mark.parametrize("taker", TAKERS, ids=lambda taker: taker.__qualname__)
@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_reaches_each_hop(
    taker: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A declared option is in signature, types and documentation, is checked, and hops have it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: ...)  # it is installed
    kind, option = OPTIONS[name]
    good, bad = VALUES[name]
    parameter = inspect.signature(taker).parameters[name]
    assert (parameter.default, parameter.kind) == (option.default, parameter.KEYWORD_ONLY)
    function = vars(taker)["__init__"] if isinstance(taker, type) else taker.__func__
    assert get_type_hints(function)[name] == kind != Any
    told = re.search(rf"^ +{name}: (.+(?:\n {{8}}.+)*)", inspect.getdoc(taker) or "", re.MULTILINE)
    assert told
    said = " ".join(told[1].split()).removeprefix(f"**{option.unit}** ")
    assert said.startswith(" ".join(option.text.split())[:40])
    assert option.unit in told[1]
    if name == "stream":  # is one way to one target, and so never one of several hops
        for value in (good, bad):
            with pytest.raises(TypeError, match=name):
                hops(taker, stream=value)
        return
    found = [hop.settings[name] for hop in hops(taker, **{name: good})]  # type: ignore[literal-required]
    if name in OF_TARGET:
        assert found == [None, None, good]
        return
    assert found == [good] * 3
    plain = hops(taker)
    assert all(hop.settings[name] != good for hop in plain)  # type: ignore[literal-required]
    if bad is not None:
        with pytest.raises((TypeError, ValueError), match=name):
            hops(taker, **{name: bad})


def test_nothing_is_forgotten() -> None:
    """Each declared option has a check and values in this file, and there is no other check."""
    assert OPTIONS.keys() == CHECKS.keys() == VALUES.keys()


@pytest.mark.parametrize("taker", [*TAKERS, MultiConnection], ids=lambda taker: taker.__qualname__)
def test_every_parameter_is_described(taker: Any) -> None:
    """What 0.3.3 took by position is described beside the options, with the unit of its API."""
    text = inspect.getdoc(taker) or ""
    for name in inspect.signature(taker).parameters:
        assert re.search(rf"^ +{name}: \S", text, re.MULTILINE), name
    assert "Args: " not in text  # the mark was replaced
    unit = "milliseconds" if taker is Connection else "seconds"
    assert f"timeout: **{unit}**" in text
    assert ("**milliseconds**" in text) == (taker is Connection)
    assert ARGUMENTS.keys() >= inspect.signature(AsyncConnection).parameters.keys() - OPTIONS.keys()


def test_options_of_many_hosts_are_declared_once() -> None:
    """Each way to make a MultiConnection takes every option of a group."""
    makers: list[Any] = [MultiConnection, MultiConnection.from_connections, TAKERS[2]]
    for name, (kind, option) in read_declared(MultiOptions).items():
        for maker in makers:
            parameter = inspect.signature(maker).parameters[name]
            assert (parameter.default, parameter.annotation) == (option.default, kind)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Connection("host", known_host=""),  # type: ignore[call-arg]
        lambda: AsyncConnection("host", known_host=""),  # type: ignore[call-arg]
        lambda: MultiConnection([], known_host=""),  # type: ignore[call-arg]
        lambda: MultiConnection.from_connections([], known_host=""),  # type: ignore[call-arg]
        lambda: MultiConnection.from_shared_auth([], known_host=""),  # type: ignore[call-arg]
        lambda: Connection("host", 22, "u", None, None, None, None, 0, 5),  # type: ignore[call-arg]
    ],
)
def test_a_wrong_call_is_a_type_error(call: Callable[[], object]) -> None:
    """An unknown name, or one argument too many by position, is refused as by any function."""
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'known_host'|positional"):
        call()


PROBE = """
import inspect
from hussh import Connection
from hussh.multi_conn import AsyncConnection, MultiConnection
for taker in (Connection, AsyncConnection, MultiConnection.from_shared_auth):
    parameter = inspect.signature(taker).parameters["greeting"]
    assert (parameter.default, parameter.annotation) == (2.5, float), parameter
    assert "    greeting: **seconds** to greet." in taker.__doc__, taker.__doc__
plan = AsyncConnection("c", proxy_jump="a,b", greeting=7)._plan
print(*(hop.used for hop in plan.hops))
multi = MultiConnection.from_shared_auth(["c", {"host": "d", "greeting": 9}], greeting=8)
print(*(host.connection._plan.target.used for host in multi._group.members))
for call in (Connection, AsyncConnection, lambda *a, **o: MultiConnection.from_shared_auth(a, **o)):
    try:
        call("c", greeting=-1)
    except ValueError as error:
        print(error)
"""


def edit(path: Path, before: str, added: str) -> None:
    """Add lines to a file, behind others."""
    text = path.read_text()
    assert text.count(before) == 1, (path, before)
    path.write_text(text.replace(before, before + added))


def test_three_places_make_an_option(tmp_path: Path) -> None:
    """In a copy of the package, declaration, check and use are all that a new option needs."""
    package = tmp_path / "hussh"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(hussh.__file__).parent, package, ignore=ignore)
    edit(
        package / "_policy/connection_options.py",
        "class ConnectionOptions(TypedDict, total=False):\n"
        '    """All options of a connection that are given by keyword."""\n',
        '    greeting: Annotated[float, Option(2.5, "to greet.", unit="seconds")]\n',
    )
    edit(
        package / "_api/check_options.py",
        "CHECKS: dict[str, Callable[[Any, str], Any]] = {\n",
        '    "greeting": lambda value, name: value if value >= 0 else check_policy(value, name),\n',
    )
    edit(
        package / "_policy/options.py",
        "class Options:\n",
        "    used = property(lambda self: self.settings['greeting'])\n",
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE],
        cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused = "host_key_policy must be one of"
    assert done.stdout.splitlines()[:2] == ["7 7 7", "8 9"]
    assert len(re.findall(refused, done.stdout)) == 3
