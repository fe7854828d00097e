"""Load what a run decides about as values, into one ``World``. The decision knows nothing but this world."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from domain.absences import Absence
from domain.guests import GuestKey
from domain.left_out import LeftOut
from panel.adoptions.decisions import open_of_selection
from panel.journal.rows import database_now
from panel.observations import candidates, components, loaded_candidates, snapshots
from panel.observations.absences import load_absences
from panel.observations.left_out import load_left_out
from panel.runs.run_log import not_selected_subjects
from reconcile.decision.adoptions import heed
from reconcile.decision.cases import World
from reconcile.decision.matching.match import RIVALS_APART
from reconcile.observation.observe import Observed
from reconcile.run_context import Reconciler


def load_world(
    reconciler: Reconciler,
    connection: Connection,
    seen: Observed,
    *,
    everything: bool = False,
    budget: int | None = None,
) -> tuple[World, dict[str, Any]]:
    """Select the candidates among what was observed, and load them as values."""
    feed = reconciler.feed
    names = feed.names_are_authoritative if feed is not None else False
    counts: dict[str, Any] = dict(
        candidates.select_candidates(
            connection,
            shared_ids=reconciler.shared_ids,
            names=names,
            proof=reconciler.proof,
            everything=everything,
            budget=budget,
        )
    )
    left_out = LeftOut()
    if counts["cut"]:
        seen.not_selected = not_selected_subjects(connection)
        seen.entangled = components.load_entangled(connection)
        left = f"{counts['cut']} candidates are left to the next run, which selects again at random"
        seen.warnings.append(f"selection: {left}")
        left_out = load_left_out(connection, RIVALS_APART if names else None, seen.broken)
    order_absences, guest_absences = load_absences(connection)
    orders = loaded_candidates.load_orders(connection, seen.broken)
    world = World(
        now=database_now(connection),
        orders=tuple(order for order in orders if order.order_id not in order_absences),
        missed_orders=tuple(order for order in orders if order.order_id in order_absences),
        guests=loaded_candidates.load_guests(connection, seen.previous, seen.began, seen.broken),
        records=loaded_candidates.load_records(connection, seen.broken),
        order_absences=order_absences,
        guest_absences=guest_absences,
        sightings=loaded_candidates.load_sightings(connection),
        clusters=reconciler.clusters,
        trusted=frozenset(seen.trusted),
        orders_at=seen.orders_at,
        previous_orders_at=seen.previous_orders_at,
        orders_read_before=seen.orders_read_before,
        has_feed=feed is not None,
        names_are_authoritative=names,
        feed=feed.name if feed is not None else "none",
        left_out=left_out,
        remembered=loaded_candidates.load_remembered(connection, seen.broken),
        last_read=_last_read(connection, reconciler.clusters),
        unidentified=loaded_candidates.load_unidentified(
            connection, reconciler.clusters, reconciler.proof, seen.broken
        ),
        unlisted=_uncounted(loaded_candidates.load_unlisted(connection), guest_absences, seen),
    )
    world, seen.adoptions = heed(world, open_of_selection(connection))
    return world, seen.counts | counts


def _last_read(connection: Connection, clusters: Iterable[str]) -> dict[str, datetime]:
    reads = {cluster: snapshots.scope_time(connection, f"proxmox:{cluster}", "all") for cluster in clusters}
    return {cluster: read for cluster, read in reads.items() if read is not None}


def _uncounted(
    unlisted: Mapping[GuestKey, datetime], absences: Mapping[GuestKey, Absence], seen: Observed
) -> dict[GuestKey, datetime]:
    """Guests that this run's trusted reads neither listed nor counted as absent, so that no proof of absence is under
    way."""
    return {
        key: since
        for key, since in unlisted.items()
        if key.cluster in seen.trusted
        and (key not in absences or absences[key].last_seen_absent_at < seen.began[key.cluster])
    }
