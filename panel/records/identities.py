"""Which machine a record's guest is by its configuration, when that was read, and why it is in doubt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy import Connection, text

from domain.identity_doubts import WHY
from panel.api_answer import api_answer


@api_answer
@dataclass(frozen=True, slots=True)
class IdentityView:
    """Which machine a VPS's guest is, by its configuration. While it is in doubt, it confirms nothing of the VPS."""

    guest: Annotated[str, Field(description="`cluster/vmid`")]
    believed: Annotated[str | None, Field(description="Which machine the VPS is linked with")]
    fingerprint: Annotated[str | None, Field(description="Which machine was at this address when it was read last")]
    state: Annotated[
        Literal["read", "stale", "unread", "forbidden"] | None, Field(description="null: no list ever showed it")
    ]
    read_at: Annotated[datetime | None, Field(description="When its configuration was read last")]
    age_s: Annotated[float | None, Field(description="Seconds since `read_at`")]
    tried_at: Annotated[datetime | None, Field(description="When the panel last asked for it and got no usable answer")]
    in_doubt: Annotated[bool, Field(description="The panel takes nothing from it until it is read again")]
    doubt: Annotated[str | None, Field(description="Why it is in doubt, as one word")]
    why: Annotated[str | None, Field(description="Why it is in doubt, as a phrase")]
    doubted_at: Annotated[datetime | None, Field(description="Since when it is in doubt")]
    unlisted_since: Annotated[datetime | None, Field(description="Since when no list has shown it")]


def identity_of(connection: Connection, vps_id: int) -> IdentityView | None:
    """The identity of a record's guest; None if the record names none or does not exist."""
    row = connection.execute(IDENTITY, {"id": vps_id}).one_or_none()
    if row is None:
        return None
    in_doubt = row.state in ("stale", "unread", None)
    return IdentityView(**row._mapping, why=WHY.get(row.doubt), in_doubt=in_doubt)


IDENTITY = text("""
SELECT r.cluster || '/' || r.vmid AS guest, r.fingerprint AS believed, g.fingerprint, g.fingerprint_state AS state,
  g.fingerprint_read_at AS read_at, g.fingerprint_tried_at AS tried_at, g.doubt, g.doubted_at, g.unlisted_since,
  CAST(extract(epoch FROM clock_timestamp() - g.fingerprint_read_at) AS float8) AS age_s
FROM vps r LEFT JOIN guests g ON g.cluster = r.cluster AND g.vmid = r.vmid
WHERE r.id = :id AND r.vmid IS NOT NULL
""")
