"""Arguments that cannot be sent are refused by us: a server might end the connection for them."""

from __future__ import annotations

from typing import Any

import pytest

from hussh import Connection
from hussh._protocol.process import Pty


def test_bad_arguments(connection: Connection) -> None:
    """Each is a TypeError or ValueError before anything is sent; the connection stays usable."""
    wrong: list[tuple[type[Exception], str, Any]] = [
        (ValueError, "NUL", lambda: connection.execute("a\0b")),
        (ValueError, "NUL", lambda: connection.popen("a\0b")),
        (TypeError, "string", lambda: connection.execute(b"true")),  # type: ignore[arg-type]
        (TypeError, "bytes-like", lambda: connection.execute("cat", input=7)),  # type: ignore[arg-type]
        (TypeError, "pty", lambda: connection.shell(pty=7)),  # type: ignore[arg-type]
        (TypeError, "pty", lambda: connection.popen("x", pty="xterm")),  # type: ignore[arg-type]
        (TypeError, "env", lambda: connection.popen("x", env={"A": 7})),  # type: ignore[dict-item]
        (TypeError, "env", lambda: connection.shell(env={7: "A"})),  # type: ignore[dict-item]
        (ValueError, "NUL", lambda: connection.popen("x", env={"A\0": "b"})),
        (ValueError, "NUL", lambda: connection.popen("x", env={"A": "b\0"})),
        (ValueError, "rows", lambda: Pty(rows=-1)),
        (TypeError, "columns", lambda: Pty(columns=80.0)),  # type: ignore[arg-type]
        (ValueError, "NUL", lambda: Pty(term="a\0")),
        (TypeError, "Connection", lambda: connection.remote_copy("x", "y")),  # type: ignore[arg-type]
    ]
    for kind, words, call in wrong:
        with pytest.raises(kind, match=words):
            call()
    assert connection.execute("echo usable").stdout == "usable\n"


def test_input_of_every_kind(connection: Connection) -> None:
    """Text and anything with bytes in it is input."""
    for data in ("ab", b"ab", bytearray(b"ab"), memoryview(b"ab")):
        assert connection.execute("cat", input=data).stdout == "ab"  # type: ignore[arg-type]
