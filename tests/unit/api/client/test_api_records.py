"""The cursor of a list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.client.record_view import cursor_after, id_before
from api.http.problems import ProblemError


@given(st.integers(1, 2**63 - 1))
def test_a_cursor_leads_back(vps_id: int) -> None:
    assert id_before(cursor_after(vps_id)) == vps_id


@pytest.mark.parametrize(
    "cursor",
    ["", "7", "v1-", "v1-0", "v1-07", "v1-7\n", "v1-٣", "v2-7", "ключ", "v1-12345678901234567890"],
)
def test_a_made_up_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ProblemError) as refused:
        id_before(cursor)
    assert (refused.value.status_code, refused.value.extra) == (422, {"field": "cursor"})


@given(st.text(max_size=40))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        found = id_before(text)
    except ProblemError:
        return
    assert 1 <= found < 2**63
