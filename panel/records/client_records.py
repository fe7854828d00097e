"""A client's own records: as the columns that a page is made of, or as the texts of an answer.

Each read is one statement, in the client's role. That of an answer also gives a tag: a hash of all values that can be
shown of these records, whoever wrote them. So it changes whenever one of them does. A caller who names it gets no
records.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from domain.record_columns import MAX_ID, Kind, Reader, names, seen_by
from panel.clients.round_trips import Query, RoundTrips, Row, Statement
from panel.records.freshness import FRESHNESS, STALE
from panel.records.public import SHOWN

CLIENT_COLUMNS = names(seen_by(Reader.CLIENT))
"""The columns that the client's role may read and a page needs."""


class Answers(NamedTuple):
    """Records as an answer has them: each one's id and its JSON, newest first. ``tag``: None if there are none.
    ``records`` is empty, too, if the caller knows the tag."""

    tag: int | None
    records: list[tuple[int, str]]


def records_query(
    user_id: int, *, vps_id: int | None = None, status: str = "", search: str = "", before_id: int | None = None,
    limit: int = 1,
) -> Query:  # fmt: skip
    """A user's live records with an id below ``before_id``, newest first, or the one with this id. To be read as the
    client. Columns: CLIENT_COLUMNS; ``as_of``, when the power state was last confirmed, ``source``, by what, and
    ``stale``; and the time on the database's clock (``read_at``). ``search``: a part of the name or of an address."""
    return Query(RECORDS, _values(user_id, vps_id, before_id, limit, status, search))


async def client_record(trips: RoundTrips, user_id: int, vps_id: int) -> Row | None:
    """One live record of a user; None also for another user's record. Columns as of ``records_query``."""
    [rows] = await trips.rows_as_client(user_id, records_query(user_id, vps_id=vps_id))
    return rows[0] if rows else None


async def client_answers(
    trips: RoundTrips, user_id: int, *, vps_id: int | None = None, status: str = "", before_id: int | None = None,
    limit: int = 1, known: Iterable[int] = (),
) -> Answers:  # fmt: skip
    """The same records as answers. ``known``: the tags of those that the caller has."""
    tags = "{" + ",".join(map(str, known)) + "}"
    query = Query(ANSWERS, (*_values(user_id, vps_id, before_id, limit, status, ""), tags))
    [rows] = await trips.rows_as_client(user_id, query)
    return Answers(rows[0]["tag"], [(row["id"], row["answer"]) for row in rows if row["id"] is not None])


def _values(
    user_id: int, vps_id: int | None, before_id: int | None, limit: int, status: str, search: str
) -> tuple[str, ...]:
    least, most = (1, MAX_ID if before_id is None else before_id - 1) if vps_id is None else (vps_id, vps_id)
    return (*map(str, (user_id, least, most, limit)), status, search)


_FOUND = (
    f"SELECT {', '.join(f'v.{name}' for name in CLIENT_COLUMNS)},"  # noqa: S608 - own words
    f" as_of.as_of, CASE WHEN seen.seen THEN 'proxmox' ELSE v.power_source END AS source, {STALE} AS stale"
    f" FROM {FRESHNESS}"
    " WHERE v.user_id = $1::bigint AND v.deleted_at IS NULL AND v.id BETWEEN $2::bigint AND $3::bigint"
    " AND ($5::text = '' OR v.status = $5::text)"
    " AND ($6::text = ''"
    " OR strpos(lower(concat_ws(chr(10), v.name, v.ip_address, v.ip6_address)), lower($6::text)) > 0)"
    " ORDER BY v.id DESC LIMIT $4::bigint"
)
RECORDS = Statement(
    f"SELECT found.*, statement_timestamp() AS read_at FROM ({_FOUND}) AS found ORDER BY id DESC"  # noqa: S608 - own words
)


def _moment(column: str) -> str:
    """A time as RFC 3339 writes it, and as the answers to sync calls do."""
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""


_IN_ANSWERS = ", ".join(
    f"{_moment(column.name) if column.kind is Kind.TIME else column.name} AS {column.json_name}" for column in SHOWN
)
_TAGGED = ", ".join((*(column.name for column in SHOWN), "power_detail", "as_of", "source", "stale"))
"""All of which the text of an answer is made."""

# Tag and records are of one statement and one moment, so they always belong together.
ANSWERS = Statement(
    f"WITH page AS MATERIALIZED ({_FOUND}), tag AS ("  # noqa: S608 - own words
    f"SELECT hash_array_extended(array_agg(hash_record_extended(ROW({_TAGGED}), 0) ORDER BY id DESC), 0) AS tag"
    " FROM page"
    ") SELECT tag.tag, page.id, CAST(row_to_json(answer) AS text) AS answer"
    " FROM tag LEFT JOIN page ON tag.tag <> ALL ($7::bigint[])"
    f" CROSS JOIN LATERAL (SELECT {_IN_ANSWERS}, power_detail, {_moment('as_of')} AS as_of, source, stale) AS answer"
    " ORDER BY page.id DESC"
)
