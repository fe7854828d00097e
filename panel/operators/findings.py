"""Findings: what the panel found and may not repair. Operators acknowledge, snooze and ignore them.

A finding resolves by itself once its cause is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection, Row, text

from panel.api_answer import api_answer
from panel.operator_error import OperatorError

LONGEST_SNOOZE = timedelta(days=30)
UNMANAGED = "unmanaged-guest"


@api_answer
@dataclass(frozen=True, slots=True)
class FindingView:
    """Something that the panel found and may not repair by itself."""

    id: int
    class_: Annotated[str, Field(alias="class")]
    subject: str
    severity: Literal["info", "warning", "alarm"]
    reason: str
    vps_id: int | None
    order_id: str | None
    cluster: str | None
    vmid: int | None
    first_seen_at: datetime
    last_seen_at: Annotated[datetime, Field(description="When it was last written: once a day while nothing changes")]
    age_s: Annotated[float, Field(description="Seconds from when it was first seen to now, or until it was resolved")]
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    snoozed_until: Annotated[datetime | None, Field(description="In the past once the snooze is over")]
    snoozed: bool
    ignored_by: Annotated[str | None, Field(description="The operator who ignored this guest for good")]
    ignored_reason: str | None
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True)
class FindingFilter:
    """Which findings to list. ``user``: the panel's id of a customer."""

    class_: str | None = None
    cluster: str | None = None
    user: int | None = None


@dataclass(frozen=True, slots=True)
class FindingCount:
    """Open findings of a class: how many there are, and the age of the oldest in seconds."""

    class_: str
    severity: str
    open: int
    oldest_s: float


def list_findings(
    connection: Connection,
    wanted: FindingFilter | None = None,
    *,
    everything: bool = False,
    limit: int = 200,
    offset: int = 0,
) -> list[FindingView]:
    """Open findings that are neither snoozed nor ignored, the most severe first.

    ``everything``: also the snoozed and the ignored ones, and those that were resolved in the last 30 days.
    """
    wanted = wanted or FindingFilter()
    values = {"class": wanted.class_, "cluster": wanted.cluster, "user": wanted.user}
    rows = connection.execute(LIST_ALL if everything else LIST, values | {"limit": limit, "offset": offset})
    return [_finding(row) for row in rows]


def findings_about(connection: Connection, vps_id: int, subjects: Iterable[str]) -> list[FindingView]:
    """The open findings about a VPS and about these subjects ("order:7041", "guest:main/101"), the most severe first,
    snoozed and ignored ones included."""
    rows = connection.execute(ABOUT, {"vps": vps_id, "subjects": sorted(subjects)})
    return [_finding(row) for row in rows]


def count_findings(connection: Connection) -> list[FindingCount]:
    """Open findings by class and severity, the most severe first."""
    return [FindingCount(*row) for row in connection.execute(COUNTS)]


def finding_as_json(finding: FindingView | FindingCount) -> dict[str, Any]:
    """A finding, or a count of findings, as JSON. There the field ``class_`` is called ``class``."""
    values = asdict(finding)
    return {"class": values.pop("class_"), **values}


def acknowledge_finding(connection: Connection, finding_id: int, by: str) -> FindingView:
    """Note that an operator has seen the finding. Raises OperatorError."""
    return _update(connection, ACKNOWLEDGE, finding_id, by=by)


def snooze_finding(connection: Connection, finding_id: int, length: timedelta, by: str) -> FindingView:
    """Leave the finding out of lists and alarms for a while. This also acknowledges it. Raises OperatorError."""
    if not timedelta(0) < length <= LONGEST_SNOOZE:
        raise OperatorError("invalid", "a snooze must be longer than 0 seconds and at most 30 days long")
    return _update(connection, SNOOZE, finding_id, by=by, length=length)


def ignore_finding(connection: Connection, finding_id: int, reason: str, by: str) -> FindingView:
    """Leave a guest that no order names out of lists for good. Raises OperatorError.

    This ignores the machine, not its address: another guest that gets the VMID later is reported again.
    """
    finding = _get(connection, finding_id)
    if finding.class_ != UNMANAGED:
        message = f"only {UNMANAGED} findings can be ignored for good; acknowledge or snooze this {finding.class_}"
        raise OperatorError("conflict", message)
    if not reason.strip():
        raise OperatorError("invalid", "to ignore a guest for good, give a reason")
    values = {"cluster": finding.cluster, "vmid": finding.vmid, "reason": reason.strip(), "by": by}
    if connection.execute(IGNORE, values).rowcount == 0:
        message = f"the identity of {finding.subject} was not read yet, or cannot be read: snooze the finding instead"
        raise OperatorError("conflict", message)
    return _get(connection, finding_id)


def unignore_finding(connection: Connection, finding_id: int) -> FindingView:
    """Take ``ignore_finding`` back. Raises OperatorError."""
    finding = _get(connection, finding_id)
    if connection.execute(UNIGNORE, {"cluster": finding.cluster, "vmid": finding.vmid}).rowcount == 0:
        raise OperatorError("conflict", f"{finding.subject} is not ignored")
    return _get(connection, finding_id)


def unsent_alarms(connection: Connection, limit: int = 20) -> list[tuple[FindingView, int]]:
    """Open alarms that the webhook has not taken and no operator has acknowledged or snoozed, the oldest first. Those
    that it has refused come last and take turns, so that they keep no other waiting.

    With each comes a number that rises when the finding becomes a new alarm.
    """
    rows = connection.execute(UNSENT_ALARMS, {"limit": limit})
    return [(_finding(row), 1 + int(row.detail.get("new_alarms", 0))) for row in rows]


def note_sent(connection: Connection, finding_id: int, occurrence: int) -> None:
    """Note that the webhook took the alarm, so that it is not sent again. If the finding has become a new alarm since,
    that one still has to be sent."""
    connection.execute(NOTE_SENT, {"id": finding_id, "occurrence": occurrence})


def note_refused(connection: Connection, finding_id: int) -> None:
    """Note that the webhook refused this alarm now. It is sent again, after the others."""
    connection.execute(NOTE_REFUSED, {"id": finding_id})


def _update(connection: Connection, statement: Any, finding_id: int, **values: Any) -> FindingView:  # noqa: ANN401
    row = connection.execute(statement, {"id": finding_id, **values}).one_or_none()
    if row is not None:
        return _finding(row)
    if connection.scalar(text("SELECT 1 FROM findings WHERE id = :id"), {"id": finding_id}) is None:
        raise OperatorError("unknown", f"finding {finding_id} does not exist; `panel-sync findings` lists them")
    raise OperatorError("conflict", f"finding {finding_id} is resolved already")


def _get(connection: Connection, finding_id: int) -> FindingView:
    row = connection.execute(GET, {"id": finding_id}).one_or_none()
    if row is None:
        raise OperatorError("unknown", f"finding {finding_id} does not exist; `panel-sync findings` lists them")
    return _finding(row)


def _finding(row: Row[Any]) -> FindingView:
    values = {name: getattr(row, name) for name in FindingView.__slots__ if name not in ("class_", "age_s")}
    return FindingView(class_=row._mapping["class"], age_s=float(row.age_s), **values)


_IGNORE_RULE = (
    "FROM ignored_guests i JOIN guests g ON g.cluster = i.cluster AND g.vmid = i.vmid AND g.fingerprint = i.fingerprint"
    f" WHERE f.class = '{UNMANAGED}' AND i.cluster = f.cluster AND i.vmid = f.vmid"
)
_COLUMNS = (
    f"f.*, (SELECT i.ignored_by {_IGNORE_RULE}) AS ignored_by, (SELECT i.reason {_IGNORE_RULE}) AS ignored_reason,"  # noqa: S608 - own text
    " coalesce(f.snoozed_until > clock_timestamp(), false) AS snoozed,"
    " extract(epoch FROM coalesce(f.resolved_at, clock_timestamp()) - f.first_seen_at) AS age_s"
)
_OF_USER = (
    "EXISTS (SELECT 1 FROM vps r WHERE r.id = f.vps_id AND r.user_id = :user) OR EXISTS (SELECT 1 FROM orders_seen o"
    " JOIN users u ON u.main_site_user_id = o.owner WHERE o.order_id = f.order_id AND u.id = :user)"
    " OR f.subject = 'user:' || CAST(:user AS text)"
)
COUNTS = text(
    "SELECT class, severity, count(*) AS open,"  # noqa: S608 - own text
    " CAST(max(extract(epoch FROM clock_timestamp() - first_seen_at)) AS float8) AS oldest_s"
    " FROM findings f WHERE resolved_at IS NULL AND coalesce(snoozed_until <= clock_timestamp(), true)"
    f" AND NOT EXISTS (SELECT 1 {_IGNORE_RULE}) GROUP BY class, severity"
    " ORDER BY array_position(ARRAY['alarm', 'warning', 'info'], severity), open DESC, class"
)
_FILTERED = (
    " AND (CAST(:class AS text) IS NULL OR f.class = :class)"
    " AND (CAST(:cluster AS text) IS NULL OR f.cluster = :cluster)"
    f" AND (CAST(:user AS bigint) IS NULL OR {_OF_USER})"
    " ORDER BY f.resolved_at IS NOT NULL, array_position(ARRAY['alarm', 'warning', 'info'], f.severity),"
    " f.first_seen_at, f.id LIMIT :limit OFFSET :offset"
)
LIST = text(
    f"SELECT {_COLUMNS} FROM findings f WHERE f.resolved_at IS NULL"  # noqa: S608 - own text
    f" AND coalesce(f.snoozed_until <= clock_timestamp(), true) AND NOT EXISTS (SELECT 1 {_IGNORE_RULE}) {_FILTERED}"
)
LIST_ALL = text(
    f"SELECT {_COLUMNS} FROM findings f WHERE (f.resolved_at IS NULL"  # noqa: S608 - own text
    f" OR f.resolved_at > statement_timestamp() - interval '30 days') {_FILTERED}"
)
ABOUT = text(
    f"SELECT {_COLUMNS} FROM findings f WHERE f.resolved_at IS NULL"  # noqa: S608 - own text
    " AND (f.vps_id = :vps OR f.subject = ANY(CAST(:subjects AS text[]))"
    " OR 'order:' || f.order_id = ANY(CAST(:subjects AS text[]))"
    " OR 'guest:' || f.cluster || '/' || f.vmid = ANY(CAST(:subjects AS text[])))"
    " ORDER BY array_position(ARRAY['alarm', 'warning', 'info'], f.severity), f.first_seen_at, f.id LIMIT 50"
)
GET = text(f"SELECT {_COLUMNS} FROM findings f WHERE f.id = :id")  # noqa: S608 - own text
IGNORE = text(
    "INSERT INTO ignored_guests AS i (cluster, vmid, fingerprint, reason, ignored_by)"
    " SELECT g.cluster, g.vmid, g.fingerprint, :reason, :by FROM guests g"
    " WHERE g.cluster = :cluster AND g.vmid = :vmid AND g.fingerprint_state = 'read' AND g.fingerprint IS NOT NULL"
    " ON CONFLICT (cluster, vmid) DO UPDATE SET fingerprint = excluded.fingerprint, reason = excluded.reason,"
    " ignored_by = excluded.ignored_by, ignored_at = excluded.ignored_at"
)
UNIGNORE = text("DELETE FROM ignored_guests WHERE cluster = :cluster AND vmid = :vmid")
UNSENT_ALARMS = text(
    f"SELECT {_COLUMNS} FROM findings f WHERE f.resolved_at IS NULL AND f.notified_at IS NULL"  # noqa: S608 - own text
    " AND f.severity = 'alarm' AND f.acknowledged_at IS NULL"
    " AND coalesce(f.snoozed_until <= clock_timestamp(), true)"
    " ORDER BY CAST(f.detail ->> 'refused_at' AS float8) NULLS FIRST, f.id LIMIT :limit"
)
NOTE_REFUSED = text(
    "UPDATE findings SET detail = detail || jsonb_build_object('refused_at', extract(epoch FROM clock_timestamp()))"
    " WHERE id = :id"
)
NOTE_SENT = text(
    "UPDATE findings SET notified_at = clock_timestamp()"
    " WHERE id = :id AND coalesce(CAST(detail ->> 'new_alarms' AS int), 0) + 1 = :occurrence"
)
ACKNOWLEDGE = text(
    "UPDATE findings f SET acknowledged_by = :by, acknowledged_at = clock_timestamp()"  # noqa: S608 - own text
    f" WHERE f.id = :id AND f.resolved_at IS NULL RETURNING {_COLUMNS}"
)
SNOOZE = text(
    "UPDATE findings f SET acknowledged_by = :by, acknowledged_at = clock_timestamp(),"  # noqa: S608 - own text
    " snoozed_until = clock_timestamp() + :length"
    f" WHERE f.id = :id AND f.resolved_at IS NULL RETURNING {_COLUMNS}"
)
