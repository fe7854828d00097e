"""Which sync calls share a message, and what task lists show of it."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from panel.journal.publish import MOST_SHOWN, Doorbell, call_bells


@dataclass(frozen=True, slots=True)
class Claimed:
    """What the relay claims of an operation."""

    id: int
    vps_id: int
    alone: bool = False
    action: str = "update"
    traceparent: str | None = None


def test_one_call_is_named_as_ever() -> None:
    assert call_bells([Claimed(7, 3, traceparent="t")], 10) == [Doorbell("sync.apply", 7, "op=7 vps=3 update", ("t",))]


def test_several_calls_are_shown_shortened() -> None:
    (few,) = call_bells([Claimed(9, 4, traceparent="t"), Claimed(7, 3, traceparent="t"), Claimed(8, 3)], 10)
    assert few == Doorbell("sync.apply", (7, 8, 9), "3 calls op=7..9 vps=3, 4", ("t",))
    (many,) = call_bells([Claimed(n, n) for n in range(1, 501)], 500)
    assert many.shown == "500 calls op=1..500 vps=1, 2, 3, 4, 5, 6, 7, 8 and 492 more"
    assert many.shown.count(",") == MOST_SHOWN - 1


@given(
    st.lists(st.builds(Claimed, st.integers(1, 500), st.integers(1, 9), st.booleans()), unique_by=lambda c: c.id),
    st.integers(1, 20),
)
def test_each_call_has_one_message_and_a_vps_is_in_one(calls: list[Claimed], most: int) -> None:
    bells = call_bells(calls, most)
    assert sorted(id_ for bell in bells for id_ in bell.operations) == sorted(call.id for call in calls)
    message_of = {id_: number for number, bell in enumerate(bells) for id_ in bell.operations}
    together = [call for call in calls if not call.alone]
    assert len({(call.vps_id, message_of[call.id]) for call in together}) == len({call.vps_id for call in together})
    for call in calls:
        if call.alone:
            assert bells[message_of[call.id]].argument == call.id
    for bell in bells:
        vpses = {call.vps_id for call in calls if call.id in bell.operations}
        assert len(bell.operations) <= most or len(vpses) == 1
