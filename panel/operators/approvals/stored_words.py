"""What operators said about held items, read from the rows of held sets.

A row has up to three words: of the first operator (``first_by``), who leaves the set open, of the operator who decided
it, and the last rejection (``rejected_at``), which stays when the set is approved later. The number is asked once more
here, with the setting of the process that reads. So a run never takes an approval of one operator for enough, whatever
the process knew that stored it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from panel.operators.approvals.second_operator import (
    TAKES_NOTHING,
    Standing,
    Word,
    is_above,
    standing,
    taking,
    was_released,
)

NOTHING_SAID = Standing()


@dataclass(frozen=True, slots=True)
class Standings:
    """By the hash of an item, what operators' words about it come to. ``now``: the database's time of the read."""

    now: datetime
    by_item: Mapping[str, Standing] = field(default_factory=dict)

    def of(self, items: Iterable[Mapping[str, Any]]) -> list[Standing]:
        """The standing of each of a set's items."""
        return [self.by_item.get(item["hash"], NOTHING_SAID) for item in items]

    def needs_second(self, items: Collection[Mapping[str, Any]], above: int | None) -> bool:
        """Whether a set of these items takes two operators to approve it: it is above the number, or one of its items
        was approved by one operator where two are needed."""
        return is_above(taking(items), above) or any(item.second for item in self.of(items))


def load_standings(connection: Connection, above: int | None, hashes: Iterable[str]) -> Standings:
    """What is in force now of all words on the items with these hashes. ``above``: SECOND_APPROVAL_ABOVE. An approval
    counts for 24 hours, a rejection for 30 days; after that the operator is asked again."""
    words: dict[str, list[Word]] = defaultdict(list)
    wanted = sorted(set(hashes))
    values = {"takes_nothing": sorted(TAKES_NOTHING), "hashes": wanted}
    rows = connection.execute(WORDS, values).all() if wanted else []
    for row in rows:
        said = words_of(row, above)
        for hash_ in row.hashes:
            words[hash_] += said
    now = rows[0].now if rows else connection.scalar(NOW)
    return Standings(now, {hash_: standing(said, now) for hash_, said in words.items()})


def decided_items(standings: Standings) -> tuple[dict[str, tuple[str, ...]], frozenset[str]]:
    """The items whose decision is in force: the approved ones by their hashes, each with the operators who approved it,
    and the hashes of the rejected ones.

    A rejected item that one of two operators approved since is neither, so that the next run holds it and the second
    operator finds it. Its question is refused still (``refused_questions``): no limit lets it through.
    """
    items = standings.by_item
    approved = {hash_: item.approvers for hash_, item in items.items() if item.released}
    return approved, frozenset(hash_ for hash_, item in items.items() if item.rejected and not item.approvals)


def refused_questions(connection: Connection, above: int | None) -> frozenset[str]:
    """The questions (``Change.question``) that an operator answered with a rejection, however long ago, and that were
    not released since. ``above``: SECOND_APPROVAL_ABOVE."""
    said: dict[str, dict[str, list[Word]]] = defaultdict(lambda: defaultdict(list))
    rows = connection.execute(REFUSED, {"takes_nothing": sorted(TAKES_NOTHING)}).all()
    for row in rows:
        said[row.question][row.hash] += words_of(row, above)
    return frozenset(question for question, by_item in said.items() if not _lifted(by_item.values(), rows[0].now))


def _lifted(items: Collection[Sequence[Word]], now: datetime) -> bool:
    """Whether one of the items that ask a question was released after the last rejection of any of them."""
    last = max(word.at for words in items for word in words if not word.approves)
    return any(was_released([word for word in words if word.at > last], now) for words in items)


def words_of(row: Row[Any], above: int | None) -> Sequence[Word]:
    """The words that one row of WORDS holds about each of its items."""
    second = row.needs_second or is_above(row.taking, above)
    said = []
    if row.first_at is not None:
        said.append(Word(row.first_by, row.first_at, approves=True, second=second))
    if row.rejected_at is not None:
        said.append(Word(NOT_NOTED, row.rejected_at, approves=False))
    if row.decision in ("approved", "rejected"):
        said.append(Word(row.decided_by, row.decided_at, approves=row.decision == "approved", second=second))
    return said


NOT_NOTED = ""
"""Who gave a rejection that the row keeps beside a later decision: the audit knows, and nothing depends on it."""

NOW = text("SELECT clock_timestamp()")
_SAID = (
    "h.first_by, h.first_at, h.rejected_at, h.decision, h.decided_by, h.decided_at, h.needs_second,"
    " clock_timestamp() AS now"
)
_TAKES = "NOT item ->> 'kind' = ANY(CAST(:takes_nothing AS text[]))"
# A set may have tens of thousands of items and is looked at for 30 days after its decision. Only what is asked for is
# sent: sets without such an item are left out.
_WORDS = (
    f"SELECT {_SAID}, i.taking, i.hashes FROM holds h CROSS JOIN LATERAL ("  # noqa: S608 - own text
    f"SELECT count(*) FILTER (WHERE {_TAKES}) AS taking, array_agg(item ->> 'hash') FILTER (WHERE item ->> 'hash' IN"
    " (SELECT unnest(CAST(:hashes AS text[])))) AS hashes FROM jsonb_array_elements(h.items) AS item) i"
    " WHERE i.hashes IS NOT NULL AND"
)
# Two statements in one, each with an index of its own. A row of both says the same twice, which changes nothing. The
# first approvals of 30 days, as far as the rejections that they helped to lift.
WORDS = text(
    f"{_WORDS} h.decision IN ('approved', 'rejected') AND h.decided_at > statement_timestamp() - interval '30 days'"
    f" UNION ALL {_WORDS} h.first_at > statement_timestamp() - interval '30 days'"
)
_ROWS = (
    f"SELECT h.items, {_SAID}, (SELECT count(*) FROM jsonb_array_elements(h.items) AS item WHERE {_TAKES}) AS taking"  # noqa: S608 - own text
    " FROM holds h WHERE"
)
REFUSED = text(
    "WITH answered AS MATERIALIZED ("  # noqa: S608 - own text
    f"{_ROWS} h.decision IN ('approved', 'rejected') UNION ALL {_ROWS} h.first_at IS NOT NULL),"
    " answers AS MATERIALIZED (SELECT"
    " CASE item ->> 'action' WHEN 'delete' THEN 'delete' ELSE item ->> 'kind' END || ' ' || (item ->> 'subject')"
    " AS question, item ->> 'hash' AS hash, a.first_by, a.first_at, a.rejected_at, a.decision, a.decided_by,"
    " a.decided_at, a.needs_second, a.now, a.taking FROM answered a, jsonb_array_elements(a.items) AS item)"
    " SELECT * FROM answers WHERE question IN"
    " (SELECT question FROM answers WHERE decision = 'rejected' OR rejected_at IS NOT NULL)"
)
