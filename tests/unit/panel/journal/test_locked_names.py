"""Which calls wait for a name that another transaction has locked."""

from __future__ import annotations

import pytest

from panel.deadlines import DEFAULT
from panel.journal.journal_state import JournalState, LockTimeout
from tests.support.calls import create_call


@pytest.mark.parametrize("name", ["key:None", "order:None"])
def test_a_call_without_key_and_order_waits_for_nobodys(name: str) -> None:
    """A careless client sends the word None."""
    call = create_call()
    state = JournalState([call], LockTimeout.NONE, DEFAULT)
    state._locked_names = {name}
    assert not state.is_locked(call)


def test_a_call_waits_for_its_own_names() -> None:
    for call, name in ((create_call(key="k"), "key:k"), (create_call(order_id="o"), "order:o")):
        state = JournalState([call], LockTimeout.NONE, DEFAULT)
        state._locked_names = {name}
        assert state.is_locked(call)
