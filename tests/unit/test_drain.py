"""How `execute` finds out that nothing more comes, stepped by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hussh._protocol.execute import Execution, _Drain, _Output


class AskedChannel:
    """A channel whose server answers when the test says so."""

    def __init__(self) -> None:
        self.asked = self.replies = 0

    def get_info(self) -> Any:
        """Return the state of a channel on which nothing lies."""
        return SimpleNamespace(replies=self.replies, rx=0, rx_err=0)

    def request(self, name: bytes, extra: bytes = b"", *, want_reply: bool = False) -> None:
        """Take a question."""
        self.asked += want_reply


def test_answers_to_earlier_questions_do_not_count() -> None:
    """A question that was dropped leaves an answer behind, which is none to those after it."""
    channel: Any = AskedChannel()
    output = _Output(channel, Execution())
    assert not _Drain(channel, output).done()
    assert not _Drain(channel, output).done()  # more has come, so it is asked anew
    drain = _Drain(channel, output)
    for answers, is_done in ((0, False), (2, False), (3, False), (4, True)):
        channel.replies = answers
        assert drain.done() is is_done
    assert channel.asked == 4
