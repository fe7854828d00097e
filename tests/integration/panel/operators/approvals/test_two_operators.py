"""Two operators decide a held set, however it changes between them and whoever is in a hurry."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, Interval, bindparam, text

from domain.changes import Create, Delete
from panel.operator_error import OperatorError
from panel.operators.approvals.deciding import decide_hold
from panel.operators.approvals.stored_words import decided_items, load_standings, refused_questions
from panel.operators.holds import Decision, HeldSet, held_set, keep_holds, with_approvals
from reconcile.decision.gate import Held
from tests.integration.panel.conftest import begin_run
from tests.support.waiting import wait_until
from tests.unit.reconcile.worlds import order, record

ABOVE = 2
ANN, BOB, CAROL, SHELL = "api:ann", "api:bob", "api:carol", "cli:ann"


def delete(number: int, version: int = 3) -> Delete:
    return Delete(source="orders", reason="its order ended", record=record(id=number, version=version))


def hold(engine: Engine, *numbers: int, changed: int | None = None) -> str:
    """A run holds the deletes of these records. ``changed``: one whose record has changed since. Returns the hash."""
    held = Held("deletes", "too many", tuple(delete(n, 4 if n == changed else 3) for n in numbers))
    run_id = begin_run(engine)
    with engine.begin() as connection:
        keep_holds(connection, run_id, [held])
    return held.hash


def approve(engine: Engine, hash_: str, by: str, above: int | None = ABOVE) -> HeldSet:
    with engine.begin() as connection:
        return decide_hold(connection, hash_, Decision.APPROVED, by, above=above)


def reject(engine: Engine, hash_: str, by: str) -> HeldSet:
    with engine.begin() as connection:
        return decide_hold(connection, hash_, Decision.REJECTED, by, above=ABOVE)


def refused(engine: Engine, hash_: str, by: str, above: int | None = ABOVE) -> str:
    with pytest.raises(OperatorError) as error:
        approve(engine, hash_, by, above)
    assert error.value.fault == "conflict"
    return str(error.value)


Decided = tuple[dict[str, tuple[str, ...]], frozenset[str]]


def decided(connection: Connection, above: int | None) -> Decided:
    """What operators decided about every item that was ever held."""
    every = connection.scalars(text("SELECT item ->> 'hash' FROM holds h, jsonb_array_elements(h.items) AS item"))
    return decided_items(load_standings(connection, above, every))


def released(engine: Engine, above: int | None = ABOVE) -> int:
    """How many items the gate of a run with this setting lets through."""
    with engine.connect() as connection:
        return len(decided(connection, above)[0])


def refused_deletes(engine: Engine, above: int | None = ABOVE) -> set[int]:
    """The records whose delete no limit lets through."""
    with engine.connect() as connection:
        return {int(question.removeprefix("delete vps:")) for question in refused_questions(connection, above)}


def state(engine: Engine, hash_: str, above: int | None = ABOVE) -> tuple[str | None, bool, list[str], int]:
    """As every view shows it: decision, whether it needs two, who approves it, how many items that releases."""
    with engine.connect() as connection:
        (one,) = with_approvals(connection, [held_set(connection, hash_)], above)
    return one.decision, one.needs_second, [given.by for given in one.approvals], one.released


def run_asked(engine: Engine) -> bool:
    with engine.begin() as connection:
        return bool(connection.execute(text("DELETE FROM task_requests WHERE task = 'reconcile.run'")).rowcount)


def later(engine: Engine, hours: float) -> None:
    """Let time pass."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE holds SET first_at = first_at - :by, decided_at = decided_at - :by,"
                " rejected_at = rejected_at - :by"
            ).bindparams(bindparam("by", type_=Interval)),
            {"by": timedelta(hours=hours)},
        )


def test_one_approval_applies_nothing_and_the_second_does(engine: Engine) -> None:
    hash_ = hold(engine, 1, 2, 3)
    assert state(engine, hash_) == (None, True, [], 0)
    assert approve(engine, hash_[:8], ANN).waits_for_second
    assert (state(engine, hash_), released(engine), run_asked(engine)) == ((None, True, [ANN], 0), 0, False)
    assert "ann approved" in refused(engine, hash_, ANN)
    assert not approve(engine, hash_, BOB).waits_for_second
    assert (state(engine, hash_), released(engine), run_asked(engine)) == (("approved", True, [ANN, BOB], 3), 3, True)
    assert "already" in refused(engine, hash_, CAROL)


def test_at_the_number_and_for_new_records_one_is_enough(engine: Engine) -> None:
    hash_ = hold(engine, 1, 2)
    assert approve(engine, hash_, SHELL).decision == "approved"
    assert released(engine) == 2
    new = tuple(Create(source="orders", reason="why", order=order(order_id=str(n))) for n in range(9))
    run_id = begin_run(engine)
    with engine.begin() as connection:
        keep_holds(connection, run_id, [Held("creates", "many", new)])
    assert approve(engine, Held("creates", "", new).hash, SHELL).decision == "approved", "one word fills a panel"


def test_a_command_is_no_operator_above_the_number(engine: Engine) -> None:
    hash_ = hold(engine, 1, 2, 3)
    for by in (SHELL, "cli:anybody"):
        assert f"/ops/held/{hash_}" in refused(engine, hash_, by), "it says where to go"
    approve(engine, hash_, ANN)
    assert "cannot prove" in refused(engine, hash_, "cli:bob")
    assert released(engine) == 0


def test_the_first_approval_is_taken_back(engine: Engine) -> None:
    hash_ = hold(engine, 1, 2, 3)
    approve(engine, hash_, ANN)
    assert reject(engine, hash_, SHELL).approvals == (), "anybody may say no"
    approve(engine, hash_, BOB)
    assert (released(engine), state(engine, hash_)) == (0, ("rejected", True, [BOB], 0))
    reject(engine, hash_, ANN)
    assert state(engine, hash_)[2] == [], "that of a rejected set, too"
    approve(engine, hash_, BOB)
    approve(engine, hash_, ANN)
    assert released(engine) == 3


def test_the_first_approval_ends_after_a_day(engine: Engine) -> None:
    hash_ = hold(engine, 1, 2, 3)
    approve(engine, hash_, ANN)
    later(engine, 24.1)
    assert approve(engine, hash_, BOB).decision is None
    assert released(engine) == 0
    approve(engine, hash_, ANN)
    assert released(engine) == 3
    later(engine, 24.1)
    assert released(engine) == 0


def test_an_item_that_changed_between_them_drops_out(engine: Engine) -> None:
    first = hold(engine, 1, 2, 3, 4)
    approve(engine, first, ANN)
    second = hold(engine, 1, 2, 3, 4, changed=4)
    assert state(engine, second) == (None, True, [ANN], 0)
    assert approve(engine, second, BOB).waits_for_second, "of the fourth as it is now nobody but Bob knows"
    assert (state(engine, second), released(engine)) == ((None, True, [ANN, BOB], 3), 3)
    assert run_asked(engine), "what both approved need not wait"
    third = hold(engine, 4, changed=4)
    assert "bob approved" in refused(engine, third, BOB), "one item alone, and it still needs two"
    approve(engine, third, CAROL)
    assert released(engine) == 4


def test_an_item_that_was_added_between_them_was_approved_by_one(engine: Engine) -> None:
    first = hold(engine, 1, 2, 3)
    approve(engine, first, ANN)
    second = hold(engine, 1, 2, 3, 4)
    approve(engine, second, BOB)
    assert (state(engine, second), released(engine)) == ((None, True, [ANN, BOB], 3), 3)
    approve(engine, second, ANN)
    assert (state(engine, second)[0], released(engine)) == ("approved", 4)


def test_the_second_may_approve_the_set_that_the_first_saw(engine: Engine) -> None:
    first = hold(engine, 1, 2, 3)
    approve(engine, first, ANN)
    hold(engine, 1, 2, 3, 4)
    approve(engine, first, BOB)
    assert released(engine) == 3


def test_a_set_that_shrank_is_not_approved_by_its_first_operator_alone(engine: Engine) -> None:
    first = hold(engine, 1, 2, 3)
    approve(engine, first, ANN)
    small = hold(engine, 1, 2)
    assert "ann approved" in refused(engine, small, ANN)
    assert "cannot prove" in refused(engine, small, SHELL)
    with_a_new_one = hold(engine, 1, 9)
    assert approve(engine, with_a_new_one, ANN).waits_for_second
    assert released(engine) == 0, "nor does the new item slip in beside the old one"
    approve(engine, with_a_new_one, BOB)
    assert released(engine) == 2


def test_a_changed_setting_approves_nothing_by_itself(engine: Engine) -> None:
    hash_ = hold(engine, 1, 2, 3)
    approve(engine, hash_, ANN)
    for above in (3, 100, None):
        assert released(engine, above) == 0, "raised: the set needed two when she approved it"
        assert "ann approved" in refused(engine, hash_, ANN, above)
    reject(engine, hash_, ANN)
    approve(engine, hash_, ANN, 3)
    assert released(engine, 3) == 3, "her new word is under the new number"
    assert released(engine, 2) == 0, "lowered: a run holds it again"
    assert hold(engine, 1, 2, 3) == hash_
    assert state(engine, hash_) == (None, True, [ANN], 0), "and her word is the first one now"
    approve(engine, hash_, BOB)
    assert released(engine, 2) == 3


def test_an_old_process_that_knows_no_second_approval(engine: Engine) -> None:
    """It writes what one operator says as the decision."""
    hash_ = hold(engine, 1, 2, 3)
    approve(engine, hash_, ANN)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE holds SET decision = 'approved', decided_by = :by, decided_at = clock_timestamp()"),
            {"by": ANN},
        )
    assert released(engine) == 0
    assert hold(engine, 1, 2, 3) == hash_, "the next run asks again"
    approve(engine, hash_, BOB)
    assert released(engine) == 3


def test_a_rejection_in_between_is_not_written_over(engine: Engine) -> None:
    first = hold(engine, 1, 2, 3)
    approve(engine, first, ANN)
    part = hold(engine, 3)
    reject(engine, part, CAROL)
    approve(engine, first, BOB)
    assert released(engine) == 2, "the third was rejected after Ann, so only Bob approves it"
    with engine.connect() as connection:
        assert all(by == (ANN, BOB) for by in decided(connection, ABOVE)[0].values())


def by_an_old_process(engine: Engine, hash_: str, by: str) -> None:
    """As the version before stores an approval: it knows neither a first one nor a kept rejection."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE holds SET decision = 'approved', decided_by = :by, decided_at = clock_timestamp()"
                " WHERE id = (SELECT max(id) FROM holds WHERE plan_hash = :hash)"
            ),
            {"by": by, "hash": hash_},
        )


def higher_number(engine: Engine, hash_: str, by: str) -> None:
    assert approve(engine, hash_, by, 3).decision == "approved"


@pytest.mark.parametrize("approves", [higher_number, by_an_old_process])
@pytest.mark.parametrize("shrinks", [False, True])
def test_an_approval_over_a_rejection_brings_no_earlier_word_back(
    engine: Engine, approves: Callable[[Engine, str, str], None], shrinks: bool
) -> None:
    """Ann approves, it is rejected, Bob approves where one is enough; then the number counts again."""
    hash_ = hold(engine, 1, 2, 3, 4) if shrinks else hold(engine, 1, 2, 3)
    approve(engine, hash_, ANN)
    hash_ = hold(engine, 1, 2, 3) if shrinks else hash_
    reject(engine, hash_, CAROL)
    approves(engine, hash_, BOB)
    assert released(engine) == 0, "what Ann said was taken back"
    assert refused_deletes(engine) == {1, 2, 3}, "and one of two lifts no rejection"
    approve(engine, hold(engine, 1, 2, 3), ANN)
    assert (released(engine), refused_deletes(engine)) == (3, set())


def test_an_approval_of_the_larger_set_lifts_no_rejection_of_the_smaller(engine: Engine) -> None:
    first = hold(engine, 1, 2, 3, 4)
    approve(engine, first, ANN)
    part = hold(engine, 1, 2, 3)
    reject(engine, part, CAROL)
    approve(engine, first, BOB)
    assert (released(engine), refused_deletes(engine)) == (1, {1, 2, 3})
    with engine.connect() as connection:
        assert decided(connection, ABOVE)[1] == set(), "a run asks again, so that a second operator finds it"
    later(engine, 24.1)
    with engine.connect() as connection:
        assert len(decided(connection, ABOVE)[1]) == 3, "nobody did"
    approve(engine, part, ANN)
    approve(engine, part, BOB)
    assert (released(engine), refused_deletes(engine)) == (3, set())
    later(engine, 24.1)
    assert (released(engine), refused_deletes(engine)) == (0, set()), "it was lifted"


def test_a_rejected_question_is_lifted_for_an_item_that_changed(engine: Engine) -> None:
    reject(engine, hold(engine, 1, 2, 3), CAROL)
    approve(engine, hold(engine, 1, 2, 3, changed=3), ANN)
    assert refused_deletes(engine) == {1, 2, 3}
    approve(engine, hold(engine, 1, 2, 3), BOB)
    assert refused_deletes(engine) == {3}, "each approved another version of it"
    approve(engine, hold(engine, 3, changed=3), BOB)
    assert refused_deletes(engine) == set()


def at_once(*works: Callable[[], object]) -> list[str]:
    """Do all at once. Returns how each ended."""
    barrier, ended = threading.Barrier(len(works)), list[str]()

    def one(work: Callable[[], object]) -> None:
        barrier.wait()
        try:
            work()
        except OperatorError as error:
            ended.append(error.fault)
        else:
            ended.append("done")

    threads = [threading.Thread(target=one, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return sorted(ended)


def test_two_at_once(engine: Engine) -> None:
    hash_ = hold(engine, 1, 2, 3)
    ended = at_once(*(lambda: approve(engine, hash_, ANN) for _ in range(4)))
    assert (ended, released(engine)) == (["conflict"] * 3 + ["done"], 0), "one operator in two windows is one"
    ended = at_once(*(lambda: approve(engine, hash_, BOB) for _ in range(4)))
    assert (ended, released(engine)) == (["conflict"] * 3 + ["done"], 3)


def test_two_operators_at_once_are_two(engine: Engine) -> None:
    hash_ = hold(engine, 1, 2, 3)
    assert at_once(lambda: approve(engine, hash_, ANN), lambda: approve(engine, hash_, BOB)) == ["done", "done"]
    assert (released(engine), state(engine, hash_)[0]) == (3, "approved")


def test_two_first_approvals_at_once_of_sets_that_share_items(engine: Engine) -> None:
    """The one who comes second sees what the first said, so a run is asked for what both approve."""
    first = hold(engine, 1, 2, 3)
    second = hold(engine, 1, 2, 3, 4)
    bob = threading.Thread(target=approve, args=(engine, second, BOB))
    with engine.begin() as connection:
        decide_hold(connection, first, Decision.APPROVED, ANN, above=ABOVE)
        bob.start()
        wait_until(lambda: waits_for_lock(engine) or not bob.is_alive(), "Bob waits for Ann, or does not")
    bob.join(60)
    assert (released(engine), run_asked(engine)) == (3, True)


WAITING = (
    "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
    " WHERE NOT l.granted AND d.datname = current_database()"
)


def waits_for_lock(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.scalar(text(WAITING)))


def test_a_set_that_is_closed_and_not_released_is_held_again_at_once(engine: Engine) -> None:
    """Both approved it. The rejection of a larger one came between."""
    first = hold(engine, 1, 2, 3)
    approve(engine, first, ANN)
    reject(engine, hold(engine, 1, 2, 3, 4), CAROL)
    assert run_asked(engine)
    assert approve(engine, first, BOB).decision == "approved"
    assert (released(engine), run_asked(engine)) == (0, True), "a run, so that Ann finds it open"
    assert hold(engine, 1, 2, 3) == first
    approve(engine, first, ANN)
    assert released(engine) == 3


def test_a_lowered_number_asks_again_about_what_one_operator_approved_after_a_rejection(engine: Engine) -> None:
    hash_ = hold(engine, 1, 2, 3)
    reject(engine, hash_, CAROL)
    approve(engine, hash_, ANN, None)
    later(engine, 24.1)
    assert (refused_deletes(engine, None), refused_deletes(engine)) == (set(), {1, 2, 3})


def test_a_run_that_replaces_the_set_meanwhile_loses_no_approval(engine: Engine) -> None:
    first = hold(engine, 1, 2, 3)
    at_once(lambda: approve(engine, first, ANN), lambda: hold(engine, 1, 2, 3, 4))
    approve(engine, first, BOB)
    assert released(engine) == 3
