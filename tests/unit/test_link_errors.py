"""What the death of a link is called (`hussh._native.link`)."""

from __future__ import annotations

import pytest

from hussh import ConnectionLost
from hussh._native.constants import Death
from hussh._native.link import Link
from hussh._native.link_state import LinkState


def test_the_belt_of_the_pump_is_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that the pump gave up is lost, and the text says whose fault that is."""
    link = Link.over_memory()
    state = link.get_info()
    state.death, state.text = Death.STUCK, "nothing moved"
    monkeypatch.setattr(Link, "get_info", lambda self: state)
    assert isinstance(state, LinkState)
    error = link.get_death()
    assert isinstance(error, ConnectionLost)
    assert "nothing moved" in str(error)
    assert "report" in str(error)
    link.free()
