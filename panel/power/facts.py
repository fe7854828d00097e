"""What the panel knows of one VPS when a power action is asked for, and again just before it is sent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, text

from domain.guests import IDENTITY_TAG, FingerprintState, GuestType, PowerState
from domain.orders import OrderState
from domain.power.permission import DOUBTFUL_FINDINGS, Facts, Listed, Refusal, Seen, hindrance
from domain.records import STALE_AFTER, LinkState
from panel.observations.proof import PROVEN, Proof
from panel.records.maintenance import PAUSED
from panel.settings import Settings


@dataclass(frozen=True, slots=True)
class PowerRules:
    """What the settings say about power actions. ``feed``: the source whose orders are read; None: there is no main
    site. ``shared_ids``: its user ids are also the panel's. ``an_hour``: how many actions one customer may ask for."""

    clusters: frozenset[str]
    feed: str | None
    shared_ids: bool
    proof: Proof
    an_hour: int

    @classmethod
    def of(cls, settings: Settings) -> PowerRules:
        """The rules that these settings make."""
        return cls(
            clusters=frozenset(settings.cluster_names),
            feed=settings.main_site_feed if settings.main_site_url else None,
            shared_ids=settings.user_id_space == "shared",
            proof=Proof(settings.absence_proof_n, timedelta(seconds=settings.absence_proof_t_s)),
            an_hour=settings.power_actions_hour,
        )


@dataclass(frozen=True, slots=True)
class Target:
    """The machine that a record is verified to have, the node where it was last, and its name as listed last."""

    cluster: str
    vmid: int
    guest_type: GuestType
    fingerprint: str
    node: str
    name: str | None


NOBODY = Refusal("vps_unknown", "This VPS does not exist", status=404)


def permitted(connection: Connection, vps_id: int, user_id: int, rules: PowerRules) -> Target | Refusal:
    """The machine that the customer may switch now, or why not."""
    values = {
        "id": vps_id,
        "shared": rules.shared_ids,
        "feed": rules.feed,
        "stale_after": STALE_AFTER,
        "doubtful": list(DOUBTFUL_FINDINGS),
        "subject": f'[{{"subject": "vps:{vps_id}"}}]',
    }
    row = connection.execute(FACTS, values | asdict(rules.proof)).one_or_none()
    if row is None:
        return NOBODY
    facts = _facts_of(row, rules.clusters)
    refusal = hindrance(facts, user_id, orders_read=rules.feed is not None, stale_after=STALE_AFTER)
    if refusal is not None:
        return refusal
    return Target(row.cluster, row.vmid, GuestType(row.guest_type), row.fingerprint, row.node, row.guest_name)


def _facts_of(row: Row[Any], clusters: frozenset[str]) -> Facts:
    return Facts(
        live=row.live,
        user_id=row.user_id,
        order_state=OrderState(row.order_state),
        link_state=LinkState(row.link_state),
        fingerprint=row.fingerprint,
        guest_type=None if row.guest_type is None else GuestType(row.guest_type),
        has_place=row.vmid is not None and row.node is not None and row.cluster in clusters,
        in_flight=row.in_flight,
        missing=row.missing,
        age=row.age,
        order=None if row.seen_state is None else _seen(row),
        guest=None if row.guest_power is None else _listed(row),
        claimed_elsewhere=row.claimed_elsewhere,
        findings=frozenset(row.findings or ()),
        change_held=row.change_held,
        paused=row.paused,
        quarantined=row.quarantined,
        cluster_away=row.cluster_away,
        orders_stale=row.orders_stale,
    )


def _seen(row: Row[Any]) -> Seen:
    return Seen(
        state=OrderState(row.seen_state),
        user_id=row.seen_user_id,
        names_guest=row.names_guest,
        names_record=row.names_record,
        missed=row.order_missed,
    )


def _listed(row: Row[Any]) -> Listed:
    return Listed(
        power=PowerState(row.guest_power),
        guest_type=GuestType(row.listed_type),
        fingerprint=row.guest_fingerprint,
        fingerprint_state=FingerprintState(row.fingerprint_state),
        absent=row.guest_absent,
        template=row.template,
        twins=row.twins,
    )


# Every time is the statement's: it is compared with indexed columns.
FACTS = text(f"""
SELECT r.deleted_at IS NULL AS live, r.user_id, r.order_state, r.link_state, r.fingerprint, r.guest_type, r.cluster,
  r.vmid, r.node, r.missing_since IS NOT NULL AS missing, coalesce(q.applied_seq < q.last_seq, true) AS in_flight,
  statement_timestamp() - greatest(
    r.power_as_of, CASE WHEN r.power_unconfirmed_since IS NULL THEN s.began_at END) AS age,
  o.state AS seen_state,
  (SELECT u.id FROM users u
   WHERE u.id = r.user_id AND CASE WHEN :shared THEN CAST(u.id AS text) ELSE u.main_site_user_id END = o.owner)
    AS seen_user_id,
  coalesce(o.cluster = r.cluster AND o.vmid = r.vmid, true) AS names_guest,
  coalesce(o.panel_vps_id = r.id, true) AS names_record,
  o.unlisted_since IS NOT NULL
    OR EXISTS (SELECT 1 FROM absences a WHERE a.kind = 'order' AND a.subject = o.order_id) AS order_missed,
  EXISTS (
    SELECT 1 FROM orders_seen x
    WHERE ((x.cluster = r.cluster AND x.vmid = r.vmid) OR x.panel_vps_id = r.id)
      AND x.order_id IS DISTINCT FROM r.order_id AND x.state <> 'ended'
      AND (x.unlisted_since IS NULL OR NOT coalesce(
        (SELECT {PROVEN} FROM absences a WHERE a.kind = 'order' AND a.subject = x.order_id), false))
  ) AS claimed_elsewhere,
  g.name AS guest_name, g.power AS guest_power, g.guest_type AS listed_type, g.fingerprint AS guest_fingerprint,
  g.fingerprint_state, g.template, g.unlisted_since IS NOT NULL
    OR EXISTS (SELECT 1 FROM absences a WHERE a.kind = 'guest' AND a.subject = g.cluster || '/' || g.vmid)
    AS guest_absent,
  g.moving_since IS NOT NULL
    OR EXISTS (SELECT 1 FROM guests x WHERE x.fingerprint = r.fingerprint AND x.unlisted_since IS NULL
               AND NOT x.template AND (x.cluster <> r.cluster OR x.vmid <> r.vmid))
    OR EXISTS (SELECT 1 FROM vps x WHERE x.fingerprint = r.fingerprint AND x.deleted_at IS NULL AND x.id <> r.id)
    OR EXISTS (SELECT 1 FROM unnest(g.tags) AS t JOIN guests x ON x.cluster = g.cluster AND t = ANY(x.tags)
               WHERE t ~ '{IDENTITY_TAG}' AND x.vmid <> g.vmid AND x.unlisted_since IS NULL AND NOT x.template)
    AS twins,
  (SELECT array_agg(DISTINCT f.class) FROM findings f
   WHERE f.resolved_at IS NULL AND f.class = ANY(CAST(:doubtful AS text[]))
     AND (f.vps_id = r.id OR f.order_id = r.order_id OR (f.cluster = r.cluster AND f.vmid = r.vmid))) AS findings,
  -- A held change of power says only that many machines turned at once.
  EXISTS (SELECT 1 FROM holds h WHERE h.decision IS NULL AND h.scope NOT LIKE 'flips:%'
          AND h.items @> CAST(:subject AS jsonb)) AS change_held,
  {PAUSED} AS paused,
  EXISTS (SELECT 1 FROM quarantine k WHERE k.next_try_at IS NOT NULL
          AND k.subject IN ('vps:' || r.id, 'order:' || r.order_id, 'guest:' || r.cluster || '/' || r.vmid))
    -- Without a feed, only calls say that a VPS is suspended or sold on: one that died may have said it.
    OR CAST(:feed AS text) IS NULL AND EXISTS (
      SELECT 1 FROM operations d WHERE d.vps_id = r.id AND d.state = 'dead' AND NOT EXISTS (
        SELECT 1 FROM operations a
        WHERE a.vps_id = r.id AND a.seq > d.seq AND a.kind = 'sync' AND a.state = 'applied'))
    AS quarantined,
  EXISTS (SELECT 1 FROM source_states t WHERE t.source = 'proxmox:' || r.cluster
          AND (t.unwell_cause = 'unread'
               OR CAST(t.backoff_state ->> 'open_until' AS timestamptz) > statement_timestamp())) AS cluster_away,
  -- delta_since follows each read without a problem, a minute behind the moment for which the read holds.
  CAST(:feed AS text) IS NOT NULL AND (
    EXISTS (SELECT 1 FROM pauses p WHERE p.paused_until > statement_timestamp() AND p.target = 'feed')
    OR NOT EXISTS (SELECT 1 FROM source_states t WHERE t.source = :feed
                   AND t.delta_since > statement_timestamp() - CAST(:stale_after AS interval)
                   AND coalesce(t.unwell_cause, '') NOT IN ('unread', 'old', 'mass-loss'))) AS orders_stale
FROM vps r
LEFT JOIN vps_queues q ON q.vps_id = r.id
LEFT JOIN scopes s ON s.source = 'proxmox:' || r.cluster AND s.scope = r.node
LEFT JOIN orders_seen o ON o.order_id = r.order_id
LEFT JOIN guests g ON g.cluster = r.cluster AND g.vmid = r.vmid
WHERE r.id = :id
""")
