"""The records that differ from their order or their guest, as runs saw them last, each with the facts that differ.

It is the same comparison as on the page of one VPS (:mod:`panel.operators.pages.comparison`), asked of all records at
once. A run decides by more than this: graces, proofs, what else names the machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Connection, Row, text

from domain.record_columns import DRIFTING, RecordColumn
from panel.api_answer import api_answer
from panel.observations.owners import IS_OWNER
from panel.operator_error import must_be_one_of
from panel.operators.pages.comparison import CONFIGURED, compare
from panel.operators.reports.looks import Configured, look
from panel.records.told import plain


@api_answer
@dataclass(frozen=True, slots=True)
class Difference:
    """One fact in which a side differs from the panel. A side that does not say it is null."""

    name: Annotated[str, Field(description="A column of the record, or `state`, `place`")]
    order: str | None
    panel: str | None
    proxmox: str | None


@api_answer
@dataclass(frozen=True, slots=True)
class DriftRow:
    """A live record that differs. `GET /api/ops/vps/{id}` and its page say what is done about it."""

    vps_id: int
    name: str
    user_id: int
    username: str
    order_id: str | None
    cluster: str | None
    vmid: int | None
    classes: list[str]
    differences: list[Difference]


@api_answer
@dataclass(frozen=True, slots=True)
class DriftCount:
    """How many records differ in a class. One record may be in several."""

    class_: Annotated[str, Field(alias="class")]
    count: int


@api_answer
@dataclass(frozen=True, slots=True)
class DriftReport:
    """How many live records differ, by class, and one page of them by id."""

    records: Annotated[int, Field(description="Live records")]
    differing: Annotated[int, Field(description="Live records that differ in at least one fact")]
    as_of: Annotated[
        datetime | None,
        Field(
            description="Of the last complete reads of the feed and of each cluster's nodes, the oldest: what changed "
            "there since may be missing here. Null: one of them was never read completely"
        ),
    ]
    counts: Sequence[DriftCount]
    rows: Sequence[DriftRow]
    more: Annotated[bool, Field(description="Whether there are more after this page")]


@dataclass(frozen=True, slots=True)
class DriftFilter:
    """Which records to list. ``user``: the panel's id of a customer."""

    class_: str | None = None
    cluster: str | None = None
    user: int | None = None


def drift(
    connection: Connection, configured: Configured, wanted: DriftFilter, *, limit: int, offset: int = 0
) -> DriftReport:
    """The records that differ by what is stored now. ``wanted`` chooses the listed ones; the counts are of all. Raises
    OperatorError if there is no such class."""
    must_be_one_of("class", wanted.class_, CLASSES)
    counted = connection.execute(COUNTS[configured.shared_ids], {"names": configured.names}).all()
    counts = [DriftCount(row.class_, row.found) for row in counted if row.class_ is not None]
    differing = next(row.found for row in counted if row.class_ is None)
    values = {"names": configured.names, "class": wanted.class_, "cluster": wanted.cluster, "user": wanted.user}
    rows = connection.execute(LIST[configured.shared_ids], values | {"limit": limit + 1, "offset": offset}).all()
    facts = _Facts(connection, rows[:limit])
    listed = [_row(row, facts, names=configured.names) for row in rows[:limit]]
    records, as_of = connection.scalar(RECORDS) or 0, look(connection, configured).as_of
    return DriftReport(records, differing, as_of, counts, listed, len(rows) > limit)


def differing_among(connection: Connection, configured: Configured, ids: Sequence[int]) -> list[int]:
    """Those of these records that differ as of now."""
    if not ids:
        return []
    values = {"names": configured.names, "ids": list(ids)}
    return list(connection.scalars(AMONG[configured.shared_ids], values))


def drift_as_json(report: DriftReport) -> dict[str, Any]:
    """The report as JSON. There the field ``class_`` is called ``class``."""
    told = asdict(report)
    told["counts"] = [{"class": one.pop("class_"), **one} for one in told["counts"]]
    return told


class _Facts:
    """The orders, guests and sizes of a page of records, by four statements."""

    def __init__(self, connection: Connection, rows: Sequence[Row[Any]]) -> None:
        found = {"ids": [row.id for row in rows], "orders": [row.order_id for row in rows if row.order_id is not None]}
        keys = {(row.cluster, row.vmid) for row in rows if row.vmid is not None}
        guests = {"clusters": [cluster for cluster, _ in keys], "vmids": [vmid for _, vmid in keys]}
        self.records = _by(connection.execute(RECORDS_BY_ID, found), "id")
        self.orders = _by(connection.execute(ORDERS_BY_ID, found), "order_id")
        self.guests = _by(connection.execute(GUESTS_BY_KEY, guests), "cluster", "vmid")
        self.configs = _by(connection.execute(CONFIGS_BY_KEY, guests), "cluster", "vmid")


def _by(rows: Iterable[Row[Any]], *key: str) -> dict[Any, Mapping[str, Any]]:
    told = [dict(row._mapping) for row in rows]
    return {tuple(row[name] for name in key) if len(key) > 1 else row[key[0]]: row for row in told}


def _row(row: Row[Any], facts: _Facts, *, names: bool) -> DriftRow:
    record, order = facts.records[row.id], facts.orders.get(row.order_id, {})
    key = (row.cluster, row.vmid)
    lines = compare(record, order, facts.guests.get(key, {}), facts.configs.get(key, {}), row.owner_id, names=names)
    return DriftRow(
        vps_id=row.id,
        name=record["name"],
        user_id=record["user_id"],
        username=record["username"],
        order_id=row.order_id,
        cluster=row.cluster,
        vmid=row.vmid,
        classes=list(row.classes),
        differences=[
            Difference(line.name, _told(line.order), _told(line.panel), _told(line.guest))
            for line in lines
            if line.differs
        ],
    )


def _told(value: object) -> str | None:
    if value is None:
        return None
    return f"{value:g}" if isinstance(value, float) else plain(value)


def _order_differs(column: RecordColumn) -> str:
    differs = f"(o.{column.name} IS NOT NULL AND o.{column.name} IS DISTINCT FROM r.{column.name})"
    return f"(:names AND {differs})" if column.feed_names_only else differs


def _guest_differs(record: str, guest: str) -> str:
    """SQL: both sides say something, and not the same."""
    return f"coalesce({record} <> {guest}, false)"


# The same as panel.operators.pages.comparison.compare, which a test holds them to.
CLASSES: Mapping[str, str] = {
    "missed-status": (
        "(coalesce(o.state NOT IN ('unknown', 'ended') AND o.state <> r.order_state, false)"
        " OR coalesce(g.power <> 'unknown' AND g.power <> r.power_state, false))"
    ),
    "missed-delete": "coalesce(o.state = 'ended', false)",
    "ownership": "(o.owner IS NOT NULL AND owner.id IS DISTINCT FROM r.user_id)",
    "plan": f"({' OR '.join(map(_order_differs, DRIFTING))})",
    "spec": "(" + " OR ".join(f"coalesce(c.{there} <> r.{here}, false)" for here, there in CONFIGURED.items()) + ")",
    "link": (
        "(coalesce(o.state <> 'ended', false) AND o.cluster IS NOT NULL AND o.vmid IS NOT NULL"
        " AND (o.cluster, o.vmid) IS DISTINCT FROM (r.cluster, r.vmid)"
        f" OR {_guest_differs('r.node', 'g.node')} OR {_guest_differs('r.guest_type', 'g.guest_type')}"
        f" OR {_guest_differs('r.fingerprint', 'g.fingerprint')})"
    ),
}
"""By class of drift: whether a record r differs from its order o, guest g or the guest's own sizes c. "missed-delete":
the order ended and the record lives on. "spec": the guest has another size."""


def _differing(*, shared_ids: bool) -> str:
    """SQL: the live records that differ, with the classes of what differs."""
    classes = ", ".join(f"CASE WHEN {differs} THEN '{name}' END" for name, differs in CLASSES.items())
    return f"""
WITH compared AS (
  SELECT r.id, r.user_id, o.order_id, k.cluster, k.vmid, owner.id AS owner_id,
    array_remove(ARRAY[{classes}], NULL) AS classes
  FROM vps r
  LEFT JOIN orders_seen own ON own.order_id = r.order_id
  LEFT JOIN LATERAL (SELECT y.order_id FROM orders_seen y WHERE own.order_id IS NULL AND y.panel_vps_id = r.id
    ORDER BY y.state = 'ended', y.changed_at DESC LIMIT 1) named ON true
  LEFT JOIN orders_seen o ON o.order_id = coalesce(own.order_id, named.order_id)
  CROSS JOIN LATERAL (SELECT CASE WHEN r.vmid IS NOT NULL THEN r.cluster WHEN o.vmid IS NOT NULL THEN o.cluster END
    AS cluster, CASE WHEN r.vmid IS NOT NULL THEN r.vmid WHEN o.cluster IS NOT NULL THEN o.vmid END AS vmid) k
  LEFT JOIN guests g ON g.cluster = k.cluster AND g.vmid = k.vmid
  LEFT JOIN guest_configs c ON c.cluster = g.cluster AND c.vmid = g.vmid AND c.fingerprint = g.fingerprint
  LEFT JOIN users owner ON {IS_OWNER[shared_ids].replace("u.", "owner.")}
  WHERE r.deleted_at IS NULL)
"""  # noqa: S608 - own text


_LIST = """
SELECT * FROM compared WHERE cardinality(classes) > 0
  AND (CAST(:class AS text) IS NULL OR :class = ANY(classes))
  AND (CAST(:cluster AS text) IS NULL OR cluster = :cluster) AND (CAST(:user AS bigint) IS NULL OR user_id = :user)
ORDER BY id LIMIT :limit OFFSET :offset
"""
_COUNTS = """
SELECT CAST(NULL AS text) AS class_, count(*) AS found FROM compared WHERE cardinality(classes) > 0
UNION ALL (SELECT class_, count(*) FROM compared, unnest(classes) AS class_ GROUP BY class_ ORDER BY 2 DESC, 1)
"""
_AMONG = "SELECT id FROM compared WHERE cardinality(classes) > 0 AND id = ANY(CAST(:ids AS bigint[])) ORDER BY id"
LIST = {shared: text(_differing(shared_ids=shared) + _LIST) for shared in (False, True)}
COUNTS = {shared: text(_differing(shared_ids=shared) + _COUNTS) for shared in (False, True)}
AMONG = {shared: text(_differing(shared_ids=shared) + _AMONG) for shared in (False, True)}
"""By whether the main site's user ids are also the panel's."""
RECORDS = text("SELECT count(*) FROM vps WHERE deleted_at IS NULL")
RECORDS_BY_ID = text(
    "SELECT r.*, u.username FROM vps r JOIN users u ON u.id = r.user_id WHERE r.id = ANY(CAST(:ids AS bigint[]))"
)
ORDERS_BY_ID = text("SELECT * FROM orders_seen WHERE order_id = ANY(CAST(:orders AS text[]))")
_KEYS = (
    "JOIN unnest(CAST(:clusters AS text[]), CAST(:vmids AS int[])) AS k(cluster, vmid)"
    " ON k.cluster = t.cluster AND k.vmid = t.vmid"
)
GUESTS_BY_KEY = text(f"SELECT t.* FROM guests t {_KEYS}")  # noqa: S608 - own text
CONFIGS_BY_KEY = text(
    f"SELECT t.* FROM guest_configs t {_KEYS}"  # noqa: S608 - own text
    " JOIN guests g ON g.cluster = t.cluster AND g.vmid = t.vmid AND g.fingerprint = t.fingerprint"
)
