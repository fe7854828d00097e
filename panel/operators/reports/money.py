"""Machines that run although nobody pays for them, and orders that are paid although their machine is missing.

The panel knows no prices, so there are counts and sizes and no sums of money. What was not read is not in these lists:
:mod:`panel.operators.reports.coverage` tells of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Connection, Row

from panel.api_answer import api_answer
from panel.operator_error import must_be_one_of
from panel.operators.reports.csv_lines import Writable, write_csv
from panel.operators.reports.looks import Configured, Look, look
from panel.operators.reports.money_statements import AGES, GROUPS, LIST, Subject

AT_ONCE = 200
"""Rows of a file that are in memory. They take some milliseconds; then the API's event loop has its turn."""
PLANS = 50
"""Plans that a summary names; the rest is counted."""

REASONS: Mapping[Subject, Sequence[str]] = {
    Subject.UNPAID: ("order-ended", "order-suspended", "order-gone", "no-order"),
    Subject.MISSING: (
        "no-guest",
        "guest-never-listed",
        "guest-not-listed",
        "guest-gone",
        "guest-in-error",
        "guest-is-template",
        "guest-stopped",
    ),
}
"""By subject, why a row is listed."""


@api_answer
@dataclass(frozen=True, slots=True)
class MoneyRow:
    """A guest that runs unpaid, or an order that is paid and whose guest is missing."""

    reason: str
    since: Annotated[datetime | None, Field(description="Since when, as far as the panel saw it")]
    age_days: Annotated[float | None, Field(description="For how many days")]
    vps_id: int | None
    order_id: str | None
    user_id: Annotated[int | None, Field(description="The panel's id of the customer; null: not known")]
    cluster: str | None
    node: str | None
    vmid: int | None
    guest_type: str | None
    name: Annotated[str | None, Field(description="The guest's, or the order's")]
    power: Annotated[str | None, Field(description="The guest's, as it was listed last")]
    cores: Annotated[float | None, Field(description="What the guest has, or what was sold; null: not known")]
    ram_mb: int | None
    disk_gb: int | None
    as_of: Annotated[datetime | None, Field(description="When its node was read completely last; null: not known")]


_OF_ROW = tuple(field.name for field in fields(MoneyRow))
COLUMNS = (*_OF_ROW, "orders_as_of")
"""The columns of the CSV file. A file has no other place for what the report says of the orders as a whole."""


@api_answer
@dataclass(frozen=True, slots=True)
class MoneyTotal:
    """How many, and their sizes together. A size that is not known adds nothing."""

    count: int
    cores: float
    ram_gb: float
    disk_gb: int
    sizes_unknown: Annotated[int, Field(description="How many of them lack a size")]


@api_answer
@dataclass(frozen=True, slots=True)
class MoneyGroup:
    """The total of one reason, one age, or one plan."""

    of: Annotated[str, Field(description="The reason; the age in days as `0-1`, `1-7`, `7-30`, `30-`; or the plan")]
    total: MoneyTotal


@api_answer
@dataclass(frozen=True, slots=True)
class MoneyReport:
    """Totals, by reason, by age and by plan, and one page of the list, the oldest first."""

    total: MoneyTotal
    reasons: Sequence[MoneyGroup]
    ages: Sequence[MoneyGroup]
    plans: Annotated[Sequence[MoneyGroup], Field(description=f"The {PLANS} most frequent: cores/RAM in MB/disk in GB")]
    more_plans: Annotated[int, Field(description="How many plans are not named")]
    orders_as_of: Annotated[
        datetime | None,
        Field(description="For which time the last complete read of the main site's orders holds; null: there is none"),
    ]
    unread: Annotated[
        list[str],
        Field(
            description="Sources that were not read, or whose content is old or not believed, so that nothing or only "
            "old news of them is told here"
        ),
    ]
    rows: Sequence[MoneyRow]
    more: Annotated[bool, Field(description="Whether there are more after this page")]


@dataclass(frozen=True, slots=True)
class MoneyFilter:
    """Which rows. ``user``: the panel's id of a customer. ``older``: only what has lasted for at least so long."""

    reason: str | None = None
    cluster: str | None = None
    user: int | None = None
    older: timedelta = timedelta(0)


def money(
    connection: Connection,
    configured: Configured,
    subject: Subject,
    wanted: MoneyFilter,
    *,
    limit: int,
    offset: int = 0,
) -> MoneyReport:
    """The report as of now. Totals and page are of what the filter leaves. Raises OperatorError if the subject has no
    such reason."""
    seen = look(connection, configured)
    values = _values(configured, seen, subject, wanted)
    groups = {"": list[MoneyGroup](), "reason": [], "age": [], "plan": []}
    for row in connection.execute(GROUPS[subject, configured.shared_ids], values):
        total = MoneyTotal(row.found, row.cores, round(row.ram_mb / 1024, 2), row.disk_gb, row.sizes_unknown)
        groups[row.by].append(MoneyGroup(row.of, total))
    rows = connection.execute(LIST[subject, configured.shared_ids], values | {"limit": limit + 1, "offset": offset})
    listed = [_row(row) for row in rows]
    return MoneyReport(
        groups[""][0].total,
        groups["reason"],
        sorted(groups["age"], key=lambda group: AGES.index(group.of)),
        groups["plan"][:PLANS],
        max(0, len(groups["plan"]) - PLANS),
        seen.orders_as_of,
        list(seen.out_of_date),
        listed[:limit],
        len(listed) > limit,
    )


def write_money(
    connection: Connection, configured: Configured, subject: Subject, wanted: MoneyFilter, out: Writable
) -> None:
    """Write all rows that the filter leaves as CSV, the oldest first. Only AT_ONCE of them are in memory at a time.
    Raises OperatorError if the subject has no such reason."""
    write_csv(out, COLUMNS, _all_rows(connection, configured, subject, wanted))


def _all_rows(
    connection: Connection, configured: Configured, subject: Subject, wanted: MoneyFilter
) -> Iterator[dict[str, Any]]:
    seen = look(connection, configured)
    values = _values(configured, seen, subject, wanted) | {"limit": None, "offset": 0}
    options = {"stream_results": True, "yield_per": AT_ONCE}
    with connection.execute(LIST[subject, configured.shared_ids], values, execution_options=options) as rows:
        for row in rows:
            yield _told(row) | {"orders_as_of": seen.orders_as_of}


def _told(row: Row[Any]) -> dict[str, Any]:
    return {**row._mapping, "age_days": None if row.age_s is None else round(row.age_s / 86400, 2)}


def _row(row: Row[Any]) -> MoneyRow:
    told = _told(row)
    return MoneyRow(**{name: told[name] for name in _OF_ROW})


def _values(configured: Configured, seen: Look, subject: Subject, wanted: MoneyFilter) -> dict[str, Any]:
    must_be_one_of("reason", wanted.reason, REASONS[subject])
    return {
        **seen.values(configured),
        "times": configured.proof.times,
        "period": configured.proof.period,
        "reason": wanted.reason,
        "cluster": wanted.cluster,
        "user": wanted.user,
        "older": wanted.older,
    }
