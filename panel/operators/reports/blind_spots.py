"""Blind spots: records, orders and guests that runs cannot judge now, because something of them was not read.

Each object has one class, the first that fits in the order of ``CLASSES``. So the counts add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection, text

from panel.api_answer import api_answer
from panel.observations.owners import IS_OWNER
from panel.operators.reports.looks import Configured, Look
from panel.operators.reports.on_proxmox import ON_PROXMOX

CLASSES: Mapping[str, tuple[str, str]] = {
    "other-hypervisor": (
        "its hypervisor is not Proxmox, and it was never found there, so no machine of it can be looked at",
        "nothing: its order alone decides, and calls of the main site are applied as ever",
    ),
    "cluster-not-configured": (
        "it names a cluster that PROXMOX_CLUSTERS does not list",
        "add the cluster to PROXMOX_CLUSTERS, or let the main site correct the name",
    ),
    "cluster-not-read": (
        "its cluster was not read, or is paused",
        "do what the line of the source says; the worker keeps trying",
    ),
    "node-not-read": (
        "the list of its node is not complete and does not show it, or the node is offline",
        "bring the node back; until then nothing of it counts as gone",
    ),
    "guest-status-unknown": (
        "Proxmox lists the guest without a status",
        "look at the guest's node: its pvestatd may hang (systemctl restart pvestatd)",
    ),
    "config-refused": (
        "the token may not read the guest's configuration (HTTP 403), so nobody knows which machine it is",
        "give the token VM.Audit on the guest",
    ),
    "config-failed": (
        "the guest's configuration was asked for and could not be read, so nobody knows which machine it is",
        "look at the guest's node; the worker asks again by itself",
    ),
    "config-waiting": (
        "the guest's configuration is not read yet",
        "wait: configurations are read in turn",
    ),
    "guest-without-identity": (
        "the guest's configuration has neither a uuid nor a MAC address",
        "give it a uuid (qm set VMID --smbios1 uuid=...) or a network device",
    ),
    "order-not-shown": (
        "no read of the feed showed an order of this record",
        "let the main site send its order_id, or look why the feed leaves the order out",
    ),
    "order-state-unknown": (
        "the feed says a status that the contract does not know",
        "mend the feed, or ask for the word to be added",
    ),
    "owner-unmapped": (
        "no user of the panel is mapped to the order's customer",
        "map the owner: panel-sync users unmapped, then users map",
    ),
    "feed-not-read": (
        "the feed was not read, or is paused, so nothing is known of its order now",
        "do what the line of the source says; the worker keeps trying",
    ),
}
"""By class: why such an object cannot be judged, and what to do."""


@api_answer
@dataclass(frozen=True, slots=True)
class BlindSpot:
    """A record, order or guest that runs cannot judge now."""

    class_: Annotated[str, Field(alias="class")]
    subject: Annotated[str, Field(description="`vps:17`, `order:7041` or `guest:fra1/104`")]
    vps_id: int | None
    order_id: str | None
    user_id: Annotated[int | None, Field(description="The panel's id of the customer")]
    cluster: str | None
    node: str | None
    vmid: int | None
    why: str
    remedy: str


@api_answer
@dataclass(frozen=True, slots=True)
class BlindSpotCount:
    """How many objects of a kind are in a class of blind spots."""

    class_: Annotated[str, Field(alias="class")]
    kind: Literal["vps", "order", "guest"]
    count: int
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class SpotFilter:
    """Which blind spots to list. ``user``: the panel's id of a customer."""

    class_: str | None = None
    cluster: str | None = None
    user: int | None = None


def list_blind_spots(
    connection: Connection,
    configured: Configured,
    look: Look,
    wanted: SpotFilter,
    *,
    limit: int,
    offset: int = 0,
) -> list[BlindSpot]:
    """The blind spots by class, in the order of ``CLASSES``; records first, then orders, then guests."""
    values = _values(configured, look) | {"class": wanted.class_, "cluster": wanted.cluster, "user": wanted.user}
    rows = connection.execute(LIST[configured.shared_ids], values | {"limit": limit, "offset": offset})
    return [
        BlindSpot(
            row.class_, row.subject, row.vps_id, row.order_id, row.user_id, row.cluster, row.node, row.vmid,
            *CLASSES[row.class_],
        )
        for row in rows
    ]  # fmt: skip


def count_blind_spots(connection: Connection, configured: Configured, look: Look) -> list[BlindSpotCount]:
    """How many there are of each class and kind, in the order of ``CLASSES``."""
    rows = connection.execute(COUNTS[configured.shared_ids], _values(configured, look))
    return [BlindSpotCount(row.class_, row.kind, row.found, *CLASSES[row.class_]) for row in rows]


def _values(configured: Configured, look: Look) -> dict[str, Any]:
    return look.values(configured) | {"order": list(CLASSES)}


# What keeps the guest at address k from being judged. A guest that is not listed is judged only where each node of its
# cluster was read, because it may be on any of them.
_OF_GUEST = """
  WHEN {k}.cluster = ANY(CAST(:unread AS text[])) THEN 'cluster-not-read'
  WHEN {k}.vmid IS NOT NULL AND (g.vmid IS NULL OR g.unlisted_since IS NOT NULL)
    AND NOT {k}.cluster = ANY(CAST(:whole AS text[])) THEN 'node-not-read'
  WHEN g.power = 'unknown' AND g.unlisted_since IS NULL
    THEN CASE WHEN g.cluster || '/' || g.node = ANY(CAST(:nodes AS text[])) THEN 'guest-status-unknown'
         ELSE 'node-not-read' END
  WHEN g.unlisted_since IS NULL AND g.fingerprint_state = 'forbidden' THEN 'config-refused'
  WHEN g.unlisted_since IS NULL AND g.fingerprint_state IN ('unread', 'stale') THEN
    CASE WHEN g.fingerprint_tried_at >= greatest(g.changed_at, g.doubted_at) THEN 'config-failed'
         ELSE 'config-waiting' END
  WHEN g.unlisted_since IS NULL AND g.fingerprint_state = 'read' AND g.fingerprint IS NULL
    THEN 'guest-without-identity'
"""


def _spots(*, shared_ids: bool) -> str:
    """SQL: every record, order and guest that may be a blind spot, with its class; NULL where it is none."""
    is_owner = IS_OWNER[shared_ids]
    unmapped = f"(o.owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM users u WHERE {is_owner}))"  # noqa: S608 - own text
    return f"""
WITH judged AS (
  SELECT 'vps' AS kind, 'vps:' || r.id AS subject, r.id AS vps_id, coalesce(o.order_id, r.order_id) AS order_id,
    r.user_id, k.cluster, coalesce(g.node, r.node) AS node, k.vmid,
    CASE WHEN NOT {ON_PROXMOX} THEN 'other-hypervisor'
      WHEN NOT k.cluster = ANY(CAST(:clusters AS text[])) THEN 'cluster-not-configured'
      {_OF_GUEST.format(k="k")}
      WHEN o.order_id IS NULL THEN 'order-not-shown'
      WHEN o.state = 'unknown' THEN 'order-state-unknown'
      WHEN {unmapped} THEN 'owner-unmapped'
      WHEN :feed_unread THEN 'feed-not-read' END AS class_
  FROM vps r LEFT JOIN orders_seen o ON o.order_id = r.order_id
  CROSS JOIN LATERAL (SELECT coalesce(r.cluster, o.cluster) AS cluster,
    CASE WHEN r.cluster IS NOT NULL THEN r.vmid ELSE o.vmid END AS vmid) k
  LEFT JOIN guests g ON g.cluster = k.cluster AND g.vmid = k.vmid
  WHERE r.deleted_at IS NULL
  UNION ALL
  SELECT 'order', 'order:' || o.order_id, NULL, o.order_id, (SELECT u.id FROM users u WHERE {is_owner}),
    o.cluster, o.node, o.vmid,
    CASE WHEN o.state = 'unknown' THEN 'order-state-unknown' ELSE 'owner-unmapped' END
  FROM orders_seen o
  WHERE o.state <> 'ended' AND o.unlisted_since IS NULL AND (o.state = 'unknown' OR {unmapped})
    AND NOT EXISTS (SELECT 1 FROM vps r WHERE r.order_id = o.order_id AND r.deleted_at IS NULL)
  UNION ALL
  SELECT 'guest', 'guest:' || g.cluster || '/' || g.vmid, NULL, NULL, NULL, g.cluster, g.node, g.vmid,
    CASE {_OF_GUEST.format(k="g")} END
  FROM guests g
  WHERE g.unlisted_since IS NULL AND NOT g.template AND g.cluster = ANY(CAST(:clusters AS text[]))
    AND NOT EXISTS (SELECT 1 FROM vps r WHERE r.cluster = g.cluster AND r.vmid = g.vmid AND r.deleted_at IS NULL))
"""  # noqa: S608 - own text


_LIST = """
SELECT * FROM judged WHERE class_ IS NOT NULL AND (CAST(:class AS text) IS NULL OR class_ = :class)
  AND (CAST(:cluster AS text) IS NULL OR cluster = :cluster) AND (CAST(:user AS bigint) IS NULL OR user_id = :user)
ORDER BY array_position(CAST(:order AS text[]), class_), kind = 'guest', kind = 'order', cluster, vps_id, vmid, order_id
LIMIT :limit OFFSET :offset
"""
_COUNTS = """
SELECT class_, kind, count(*) AS found FROM judged WHERE class_ IS NOT NULL GROUP BY class_, kind
ORDER BY array_position(CAST(:order AS text[]), class_), kind = 'guest', kind = 'order'
"""
LIST = {shared: text(_spots(shared_ids=shared) + _LIST) for shared in (False, True)}
COUNTS = {shared: text(_spots(shared_ids=shared) + _COUNTS) for shared in (False, True)}
"""By whether the main site's user ids are also the panel's."""
