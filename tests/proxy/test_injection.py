"""Hostile host and user names: one argument that equals the name, or a refusal (no shell acts)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hussh._connect.proxy_command import start_proxy
from hussh._policy.route import expand_proxy_command
from tests.support.alphabet import ANY_CHARACTER

EXAMPLES = 2000 if os.environ.get("HUSSH_LONG") == "1" else 120

#: What shells, option parsers and token expansion may act on, thickly mixed with plain text.
PIECES = st.sampled_from(
    [
        *"abz09.-_:@+,%~=/\\'\"`$&|;<>()[]{}*?!#^ \t\n\r\0\x1b\x7f",
        "$(touch pwned)", "`touch pwned`", "; touch pwned", "|touch pwned", "\ntouch pwned\n",
        "$IFS", "${PATH}", "%h", "%r", "%%", "-oProxyCommand=x", "--", "é", "\u202e", "\ud800",
    ]
)  # fmt: skip
NAMES = st.lists(PIECES, max_size=8).map("".join) | st.text(ANY_CHARACTER, max_size=12)

FORMS = [
    pytest.param("printf '%%s\\0' first %h second %r", id="string"),
    pytest.param(["printf", "%%s\\0", "first", "%h", "second", "%r"], id="list"),
]


def _run(argv: list[str]) -> list[bytes]:
    """Start a proxy command for real; return the arguments that it printed."""
    stream = start_proxy(argv)
    try:
        out, _ = stream.fds()
        text = b""
        while True:
            os.set_blocking(out, True)
            part = os.read(out, 65536)
            if not part:
                return text.split(b"\0")[:-1]
            text += part
    finally:
        stream.close()


@pytest.mark.parametrize("form", FORMS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(host=NAMES, user=NAMES)
@example(host="-oProxyCommand=touch pwned", user="u")
@example(host="h", user="$(touch pwned)")
@example(host="%r", user="%h")
@example(host="::1%eth0", user="me@corp")
def test_hostile_names(
    form: str | list[str], host: str, user: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command really run gets exactly one argument equal to each name, or nothing runs."""
    monkeypatch.chdir(tmp_path)
    try:
        argv = expand_proxy_command(form, host, 22, user)
    except ValueError:
        return
    words = [b"first", os.fsencode(host), b"second", os.fsencode(user)]
    assert _run(argv) == words
    assert os.listdir(tmp_path) == ["home"]


@pytest.mark.parametrize("form", FORMS)
def test_ordinary_names_are_not_refused(form: str | list[str]) -> None:
    """The property above is not kept by refusing everything."""
    for host in ("host", "10.0.0.1", "::1", "fe80::1%eth0", "a-b.c_d.example"):
        for user in ("root", "me@corp", "first.last", "me+tag"):
            argv = expand_proxy_command(form, host, 22, user)
            assert _run(argv) == [b"first", host.encode(), b"second", user.encode()]
