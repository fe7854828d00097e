"""Adoptions as they are stored: an operator's word that waits for a run, and what became of it.

An operator stores one or withdraws it. A run takes those of the orders that it selected, and notes what it made of
each. The one that a run follows ends in the transaction that links the guest (:mod:`panel.journal.repairs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection, Row, text

from domain.adoptions.decision import KEPT_FOR, Adoption, Judgement, Lapses, Stands, Waits
from domain.guests import GuestKey, GuestType
from panel.api_answer import api_answer
from panel.operator_error import OperatorError

STILL_WAITS = "nothing speaks against it; if it goes on waiting, look at the findings and the held sets of its order"
"""Of an adoption that a run might have followed and did not: a pause, a policy or a doubt of another kind held it."""


@api_answer
@dataclass(frozen=True, slots=True)
class AdoptionView:
    """A guest that an operator gave to an order, and what became of it."""

    id: int
    cluster: str
    vmid: int
    guest_type: Literal["qemu", "lxc"]
    fingerprint: Annotated[str, Field(description="The machine that was adopted: no other one at this address is")]
    order_id: str
    user_id: Annotated[int, Field(description="The panel's id of the order's customer at that time")]
    reason: str
    evidence: list[str]
    adopted_by: str
    adopted_at: datetime
    outcome: Annotated[
        Literal["linked", "withdrawn", "lapsed"] | None, Field(description="null while it waits for a run")
    ]
    why: Annotated[str | None, Field(description="What it waits for, or why it ended")]
    ended_at: datetime | None
    ended_by: str | None
    vps_id: Annotated[int | None, Field(description="The record that was linked to the guest")]

    @property
    def key(self) -> GuestKey:
        return GuestKey(self.cluster, self.vmid)


def store(connection: Connection, values: Mapping[str, Any], by: str) -> AdoptionView:
    """Store an adoption. ``values``: the columns of the guest and the order, the reason and the evidence. Raises
    OperatorError if the guest or the order has one that waits: one of two operators was first."""
    row = connection.execute(STORE, {**values, "by": by}).one_or_none()
    if row is not None:
        return _view(row)
    other = connection.execute(WAITING_FOR, values).first()
    if other is None:  # it ended between the two statements
        raise OperatorError("conflict", "another adoption of this guest or order ended just now: look again")
    same = (other.cluster, other.vmid) == (values["cluster"], values["vmid"])
    what = f"guest {other.cluster}/{other.vmid}" if same else f"order {other.order_id}"
    raise OperatorError(
        "conflict",
        f"{what} is adopted already: {other.adopted_by} gave guest {other.cluster}/{other.vmid} to order "
        f"{other.order_id}; withdraw adoption {other.id} first",
    )


def withdraw(connection: Connection, adoption_id: int, reason: str, by: str) -> AdoptionView:
    """End an adoption that no run has followed yet. Raises OperatorError."""
    row = connection.execute(WITHDRAW, {"id": adoption_id, "why": reason.strip(), "by": by}).one_or_none()
    if row is not None:
        return _view(row)
    known = connection.execute(GET, {"id": adoption_id}).one_or_none()
    if known is None:
        raise OperatorError(
            "unknown", f"adoption {adoption_id} does not exist; `panel-sync adopt decisions` lists them"
        )
    message = f"adoption {adoption_id} is {known.outcome} already, since {known.ended_at:%Y-%m-%d %H:%M:%S} UTC"
    raise OperatorError("conflict", message)


def list_adoptions(
    connection: Connection, *, ended: bool = False, limit: int = 50, offset: int = 0
) -> list[AdoptionView]:
    """The adoptions that wait for a run, the oldest first. ``ended``: those that ended in the last 90 days, the latest
    first."""
    rows = connection.execute(ENDED if ended else OPEN, {"limit": limit, "offset": offset})
    return [_view(row) for row in rows]


def latest_of(connection: Connection, keys: list[GuestKey]) -> dict[GuestKey, AdoptionView]:
    """The latest adoption of each of these guests' addresses."""
    values = {"clusters": [key.cluster for key in keys], "vmids": [key.vmid for key in keys]}
    views = [_view(row) for row in connection.execute(LATEST, values)]
    return {view.key: view for view in views}


# --- for runs


def open_of_selection(connection: Connection) -> tuple[Adoption, ...]:
    """The open adoptions of the orders that a run selected, and those that waited too long. Call it while
    ``pick_orders`` exists."""
    return tuple(
        Adoption(
            row.id,
            GuestKey(row.cluster, row.vmid),
            GuestType(row.guest_type),
            row.fingerprint,
            row.order_id,
            row.owner,
            row.user_id,
            row.adopted_by,
            row.adopted_at,
            row.reason,
        )
        for row in connection.execute(OF_SELECTION, {"kept": KEPT_FOR})
    )


def note_judged(connection: Connection, judged: Mapping[int, Judgement]) -> None:
    """Note what a run made of adoptions: those that lapse end, and of those that wait it says for what. One that ended
    meanwhile stays as it is."""
    for adoption_id, judgement in sorted(judged.items()):
        match judgement:
            case Lapses(why=why):
                connection.execute(LAPSE, {"id": adoption_id, "why": why})
            case Waits(why=why):
                connection.execute(NOTE, {"id": adoption_id, "why": why})
            case Stands():
                connection.execute(NOTE, {"id": adoption_id, "why": STILL_WAITS})


def stands(connection: Connection, adoption_id: int) -> bool:
    """Whether an adoption still waits. If so it is locked, so that nobody withdraws it before the transaction ends."""
    return connection.scalar(LOCK, {"id": adoption_id}) is not None


def note_linked(connection: Connection, adoption_id: int, vps_id: int) -> None:
    """End an adoption that is followed in this transaction."""
    connection.execute(LINKED, {"id": adoption_id, "vps": vps_id})


def _view(row: Row[Any]) -> AdoptionView:
    return AdoptionView(**{name: getattr(row, name) for name in AdoptionView.__slots__})


STORE = text(
    "INSERT INTO adoptions (cluster, vmid, guest_type, fingerprint, order_id, owner, user_id, reason, evidence,"
    " adopted_by) VALUES (:cluster, :vmid, :guest_type, :fingerprint, :order_id, :owner, :user_id, :reason,"
    " CAST(:evidence AS text[]), :by) ON CONFLICT DO NOTHING RETURNING *"
)
WAITING_FOR = text(
    "SELECT * FROM adoptions WHERE ended_at IS NULL"
    " AND ((cluster = :cluster AND vmid = :vmid) OR order_id = :order_id) ORDER BY id LIMIT 1"
)
WITHDRAW = text(
    "UPDATE adoptions SET outcome = 'withdrawn', ended_at = clock_timestamp(), ended_by = :by, why = :why"
    " WHERE id = :id AND ended_at IS NULL RETURNING *"
)
GET = text("SELECT * FROM adoptions WHERE id = :id")
OPEN = text("SELECT * FROM adoptions WHERE ended_at IS NULL ORDER BY id LIMIT :limit OFFSET :offset")
ENDED = text(
    "SELECT * FROM adoptions WHERE ended_at IS NOT NULL ORDER BY ended_at DESC, id DESC LIMIT :limit OFFSET :offset"
)
LATEST = text(
    "SELECT a.* FROM unnest(CAST(:clusters AS text[]), CAST(:vmids AS int[])) AS w(cluster, vmid)"
    " CROSS JOIN LATERAL (SELECT * FROM adoptions a WHERE a.cluster = w.cluster AND a.vmid = w.vmid"
    " ORDER BY a.id DESC LIMIT 1) a"
)
OF_SELECTION = text(
    "SELECT * FROM adoptions a WHERE a.ended_at IS NULL"
    " AND (a.adopted_at <= statement_timestamp() - CAST(:kept AS interval)"
    " OR EXISTS (SELECT 1 FROM pick_orders p WHERE p.order_id = a.order_id)) ORDER BY a.id"
)
LAPSE = text(
    "UPDATE adoptions SET outcome = 'lapsed', ended_at = clock_timestamp(), why = :why"
    " WHERE id = :id AND ended_at IS NULL"
)
NOTE = text(
    "UPDATE adoptions SET why = CAST(:why AS text)"
    " WHERE id = :id AND ended_at IS NULL AND why IS DISTINCT FROM CAST(:why AS text)"
)
LOCK = text("SELECT 1 FROM adoptions WHERE id = :id AND ended_at IS NULL FOR UPDATE")
LINKED = text(
    "UPDATE adoptions SET outcome = 'linked', ended_at = clock_timestamp(), why = NULL, vps_id = :vps"
    " WHERE id = :id AND ended_at IS NULL"
)
