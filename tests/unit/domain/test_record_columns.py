"""The registry of a record's columns, and the places beside it in which a column must be written by hand.

What is made from the registry cannot be forgotten. Each other place has a check here, and each check is shown a column
that nobody wrote: a check that does not miss it is worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields

import pytest

from domain.orders import Order
from domain.record_columns import (
    COLUMNS,
    DRIFTING,
    Facts,
    Kind,
    Reader,
    RecordColumn,
    ValueSource,
    given_by,
    in_group,
    names,
    seen_by,
)
from domain.records import Record
from lab.simulators.main_site.model import Order as SoldOrder
from panel.journal.rows import difference
from panel.records.projection import new_row, updated_row
from panel.records.public import public_record
from sources.main_site.parse import ORDER_FIELDS, SERVER_FIELDS
from tests.unit.reconcile.worlds import NOW, ago

FORGOTTEN = RecordColumn(
    "forgotten", Kind.TEXT, Facts.PLAN, ValueSource.CALL | ValueSource.ORDER, seen_by=Reader.OPERATOR
)

NEVER_DECIDED_ON = {
    "status", "order_source", "order_as_of", "link_source", "power_detail", "power_as_of", "power_unconfirmed_since",
    "applied_seq", "updated_at", "deleted_reason",
}  # fmt: skip
"""What no decision asks for: a ``Record`` does without it."""


def _record(columns: Iterable[RecordColumn]) -> set[str]:
    return set(names(columns)) - {field.name for field in fields(Record)} - NEVER_DECIDED_ON


def _ordered(columns: Iterable[RecordColumn]) -> set[str]:
    return {column.name for column in columns if ValueSource.ORDER in column.given_by}


def _order(columns: Iterable[RecordColumn]) -> set[str]:
    return _ordered(columns) - {field.name for field in fields(Order)}


def _feed_row(columns: Iterable[RecordColumn]) -> set[str]:
    read = {(field.name, field.feed_name) for field in ORDER_FIELDS}
    return {
        column.name
        for column in columns
        if ValueSource.ORDER in column.given_by and (column.name, column.feed_name) not in read
    }


def _simulator(columns: Iterable[RecordColumn]) -> set[str]:
    return _ordered(columns) - {field.name for field in fields(SoldOrder)}


PLACES: dict[str, Callable[[Iterable[RecordColumn]], set[str]]] = {
    "domain/records.py: Record": _record,
    "domain/orders.py: Order": _order,
    "sources/main_site/parse.py: SERVER_FIELDS or ORDER_FIELDS": _feed_row,
    "lab/simulators/main_site/model.py: Order": _simulator,
}
"""The migration is checked against a real database: tests/integration/panel/schema/test_record_table.py."""


@pytest.mark.parametrize("place", PLACES)
def test_every_column_is_in_every_place(place: str) -> None:
    assert PLACES[place](COLUMNS) == set(), place


@pytest.mark.parametrize("place", PLACES)
def test_a_column_that_is_forgotten_in_a_place_is_noticed(place: str) -> None:
    assert PLACES[place]((*COLUMNS, FORGOTTEN)) == {"forgotten"}, place


def test_both_feeds_tell_the_plan() -> None:
    assert set(names(DRIFTING)) <= {field.name for field in SERVER_FIELDS}


def test_a_drifting_column_has_a_time_that_its_group_shares() -> None:
    for column in DRIFTING:
        assert column.group is not None
        assert f"{column.group}_changed_at" in names(in_group(column.group))


def test_columns_have_names_of_their_own() -> None:
    for shown in (names(COLUMNS), [column.json_name for column in COLUMNS], [column.feed_name for column in COLUMNS]):
        assert len(shown) == len(set(shown))


def test_a_number_that_a_call_may_say_has_limits() -> None:
    given = [column for column in given_by(ValueSource.CALL) if column.kind in (Kind.ID, Kind.WHOLE)]
    assert [column.name for column in given if column.limits is None] == []


def test_who_sees_the_second_address() -> None:
    """A column that one reader must not see is not his because another sees it."""
    for name in ("ip_address", "ip6_address"):
        assert [name in names(seen_by(reader)) for reader in Reader] == [True, True, True]
    assert "fingerprint" not in names((*seen_by(Reader.MAIN_SITE), *seen_by(Reader.CLIENT)))
    assert "cluster" not in names((*seen_by(Reader.MAIN_SITE), *seen_by(Reader.CLIENT)))


CREATE = {"user_id": 5, "name": "web", "status": "running", "cpu": 1, "ram": 512, "disk": 10, "os": "Debian",
          "hypervisor": "proxmox", "ip6_address": "2001:db8::1"}  # fmt: skip


def test_the_second_address_from_call_to_answer_and_journal() -> None:
    row = new_row(1, CREATE, ago(hours=1))
    assert public_record(row)["ip6_address"] == "2001:db8::1"
    same = updated_row(row, {"status": "stopped"}, NOW)
    assert same["ip6_address"] == "2001:db8::1", "a call that does not mention it leaves it as it is"
    moved = updated_row(row, {"status": "running", "ip6_address": "2001:db8::2"}, NOW)
    assert difference(row, moved) == ({"ip6_address": "2001:db8::1"}, {"ip6_address": "2001:db8::2"})


@pytest.mark.parametrize("field", ["ip_address", "ip6_address"])
def test_an_address_that_a_call_says_is_newer_than_an_order_that_was_read_before(field: str) -> None:
    row = new_row(1, CREATE, ago(hours=1))
    assert updated_row(row, {"status": "running"}, NOW)["plan_changed_at"] == ago(hours=1)
    assert updated_row(row, {"status": "running", field: "2001:db8::9"}, NOW)["plan_changed_at"] == NOW
