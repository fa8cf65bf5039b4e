"""What only the sync `Connection.popen` has; `tests/conformance/test_popen.py` has the rest."""

from __future__ import annotations

import io
import shutil

from hussh import Connection


def test_copyfileobj(connection: Connection) -> None:
    """The streams are file objects that shutil takes."""
    with connection.popen("tr a-z A-Z") as process:
        process.stdin.write(b"shout " * 1000)
        process.stdin.close()
        copied = io.BytesIO()
        shutil.copyfileobj(process.stdout, copied)
    assert copied.getvalue() == b"SHOUT " * 1000
