"""The last look of the runs at each source and node: whether it was complete, since when not, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection, Row, text

from domain.source_troubles import USERS
from panel.api_answer import api_answer
from panel.observations.proof import Proof
from panel.operators.pauses import ALL, CLUSTER, FEED, PauseView, pauses_in_force
from panel.runs.source_states import SourceView, list_sources
from panel.settings import Settings

LookCause = Literal["unread", "incomplete", "mass-loss", "old", "not-imported", "paused", "never"]

NOT_READ = frozenset({"unread", "paused", "never"})
"""Causes with which nothing of the source is known now."""

OUT_OF_DATE = NOT_READ | {"old"}
"""Causes with which what is known of the source may be old."""

REMEDY_NEVER = "start a worker and beat, then run panel-sync doctor: no run has read this source completely yet"
REMEDY_NODE = "bring the node back, or run panel-sync doctor to see what its list lacks"
REMEDY_ROWS = "repair these rows in the main site: until then the feed is not complete, so no order counts as gone"


@dataclass(frozen=True, slots=True)
class Configured:
    """What the settings say of sources. ``names``: the feed's names count. ``shared_ids``: the main site's user ids are
    also the panel's. ``proof``: what proves that something is gone."""

    clusters: tuple[str, ...]
    feed: str
    names: bool
    shared_ids: bool
    proof: Proof

    @property
    def sources(self) -> list[str]:
        return [self.feed, *(CLUSTER + cluster for cluster in self.clusters), USERS]


def configured(settings: Settings) -> Configured:
    """What is configured now."""
    return Configured(
        tuple(sorted(settings.cluster_names)),
        settings.main_site_feed,
        settings.main_site_feed == "orders",
        settings.user_id_space == "shared",
        Proof(settings.absence_proof_n, timedelta(seconds=settings.absence_proof_t_s)),
    )


@api_answer
@dataclass(frozen=True, slots=True)
class SourceLook:
    """The last look at a source, or at one node of a cluster."""

    source: str
    node: Annotated[str | None, Field(description="A node of the cluster; null: the source as a whole")]
    complete: Annotated[bool, Field(description="Whether the last look was complete and is believed")]
    looked_at: Annotated[datetime | None, Field(description="When the last look began; null: not known")]
    complete_at: Annotated[datetime | None, Field(description="When the last complete look began; null: there is none")]
    entries: Annotated[int | None, Field(description="How many entries the last look showed")]
    refused: Annotated[
        int | None, Field(description="Of the feed: rows of the last look that could not be read; null: not known")
    ]
    cause: Annotated[LookCause | None, Field(description="Why it is not complete")]
    reason: str | None
    since: Annotated[datetime | None, Field(description="Since when it is not complete; null: not known")]
    remedy: Annotated[str | None, Field(description="What to do about it")]


@dataclass(frozen=True, slots=True)
class Look:
    """What the runs saw last. ``unread``: configured clusters whose guests are not known now. ``whole``: clusters of
    which each node was read completely. ``nodes``: the completely read nodes, as "cluster/node". ``feed_unread``:
    nothing of the feed is known now. All of them are names, for statements. ``orders_as_of``: for which time the last
    complete read of the feed holds. ``as_of``: the oldest such time of the feed and the clusters. None: there is none.
    ``out_of_date``: the feed and the clusters of which what is known may be old, by name."""

    sources: Sequence[SourceLook]
    unread: frozenset[str]
    whole: frozenset[str]
    nodes: frozenset[str]
    feed_unread: bool
    orders_as_of: datetime | None
    as_of: datetime | None
    out_of_date: Sequence[str]

    def values(self, configured: Configured) -> dict[str, Any]:
        """The parameters of a statement that asks whether something can be judged."""
        return {
            "clusters": list(configured.clusters),
            "unread": sorted(self.unread),
            "whole": sorted(self.whole),
            "nodes": sorted(self.nodes),
            "feed_unread": self.feed_unread,
        }


def look(connection: Connection, configured: Configured) -> Look:
    """The last look at each configured source and at each node."""
    states = {view.source: view for view in list_sources(connection)}
    reads = {row.source: row for row in connection.execute(LAST_READS, {"sources": configured.sources})}
    pauses = pauses_in_force(connection)
    looks: list[SourceLook] = []
    unread, whole, nodes = set[str](), set[str](), set[str]()
    for source in configured.sources:
        seen = _source_look(source, states.get(source), reads.get(source), _pause_of(source, pauses))
        cluster = source.removeprefix(CLUSTER) if source.startswith(CLUSTER) else None
        if cluster is None or seen.cause in NOT_READ:
            looks.append(seen)
            unread |= {cluster} if cluster is not None else set()
            continue
        of_nodes = [_node_look(row, seen) for row in connection.execute(NODES, {"source": source})]
        looks += [replace(seen, complete_at=_oldest(one.complete_at for one in of_nodes)), *of_nodes]
        nodes |= {f"{cluster}/{one.node}" for one in of_nodes if one.complete}
        if of_nodes and all(one.complete for one in of_nodes):
            whole.add(cluster)
    feed = next(one for one in looks if one.source == configured.feed)
    judged_by = [one for one in looks if one.node is None and one.source != USERS]
    return Look(
        looks,
        frozenset(unread),
        frozenset(whole),
        frozenset(nodes),
        feed.cause in NOT_READ,
        feed.complete_at,
        _oldest(one.complete_at for one in judged_by),
        [one.source for one in judged_by if _may_be_old(one, configured.feed)],
    )


def _may_be_old(one: SourceLook, feed: str) -> bool:
    """Whether what is known of a source may be old. If much vanished from the feed at once, nobody knows of the missing
    orders whether they go on."""
    return one.cause in OUT_OF_DATE or (one.source == feed and one.cause == "mass-loss")


def _oldest(times: Iterable[datetime | None]) -> datetime | None:
    """The oldest of these times; None if one of them is missing or there is none."""
    known = list(times)
    return min((at for at in known if at is not None), default=None) if None not in known else None


def _pause_of(source: str, pauses: Mapping[str, PauseView]) -> PauseView | None:
    """The pause that keeps runs from reading a source."""
    own = FEED if not source.startswith(CLUSTER) else source
    return pauses.get(ALL) or pauses.get(own)


def _source_look(source: str, state: SourceView | None, read: Row[Any] | None, pause: PauseView | None) -> SourceLook:
    complete_at = None if state is None else state.read_at
    cause, reason, since, remedy = _trouble(state, read, pause)
    return SourceLook(
        source=source,
        node=None,
        complete=cause is None,
        looked_at=complete_at if read is None else read.began_at,
        complete_at=complete_at,
        entries=state.entries if read is None and state is not None else None if read is None else read.entries,
        refused=None if read is None else read.refused,
        cause=cause,
        reason=reason,
        since=since,
        remedy=remedy,
    )


def _trouble(
    state: SourceView | None, read: Row[Any] | None, pause: PauseView | None
) -> tuple[LookCause | None, str | None, datetime | None, str | None]:
    """Cause, reason, since when, remedy."""
    if pause is not None:
        return "paused", str(pause), pause.since, f"to go on: panel-sync resume {pause.target.removeprefix(CLUSTER)}"
    if state is not None and state.cause is not None:
        rows = REMEDY_ROWS if read is not None and read.refused else state.remedy
        return state.cause, state.reason, state.since, rows
    if state is None or state.read_at is None:
        return "never", "no run has read it completely yet", None, REMEDY_NEVER
    return None, None, None, None


def _node_look(row: Row[Any], cluster: SourceLook) -> SourceLook:
    """A node as the cluster's last trusted list shows it. What the run said of the cluster says why it is not whole."""
    told = "; ".join(p.partition(": ")[2] for p in row.problems if p.startswith(f"{cluster.source[len(CLUSTER) :]}: "))
    reason = row.problem or told or cluster.reason or "the list of this node may leave guests out"
    return SourceLook(
        source=cluster.source,
        node=row.node,
        complete=row.complete,
        looked_at=row.began_at,
        complete_at=row.complete_at,
        entries=row.entries,
        refused=None,
        cause=None if row.complete else "incomplete",
        reason=None if row.complete else reason,
        since=None if row.complete else row.complete_at,
        remedy=None if row.complete else cluster.remedy or REMEDY_NODE,
    )


# Of a feed the latest read may be one of what changed. Its run counted the rows that it refused.
LAST_READS = text("""
SELECT w.source, s.count AS entries, s.began_at,
  CASE WHEN NOT starts_with(w.source, 'proxmox:') THEN CAST(r.counts ->> 'orders_refused' AS int) END AS refused
FROM unnest(CAST(:sources AS text[])) AS w(source)
CROSS JOIN LATERAL (
  SELECT max(x.id) AS id FROM (VALUES ('all'), ('changes')) AS kinds(scope) CROSS JOIN LATERAL (
    SELECT y.id FROM snapshots y WHERE y.source = w.source AND y.scope = kinds.scope
    ORDER BY y.id DESC LIMIT 1) x) newest
JOIN snapshots s ON s.id = newest.id
JOIN runs r ON r.id = s.run_id
""")
NODES = text("""
SELECT n.scope AS node, n.complete, n.count AS entries, n.problem, n.began_at, r.problems, c.began_at AS complete_at
FROM scopes a JOIN snapshots t ON t.id = a.snapshot_id
JOIN runs r ON r.id = t.run_id
JOIN snapshots n ON n.run_id = t.run_id AND n.source = a.source AND n.scope <> 'all'
LEFT JOIN scopes c ON c.source = n.source AND c.scope = n.scope
WHERE a.source = :source AND a.scope = 'all' ORDER BY n.scope
""")
