"""Which machine a record's guest is by its own configuration, when that was read, and what puts it in doubt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from domain.identity_doubts import WHY


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a record's guest. ``fingerprint``: as last read; ``believed``: the record's own. ``read_at``:
    when its configuration was last read (``age_s`` seconds ago); ``tried_at``: the last attempt that gave nothing.
    ``state``: read | stale | unread | forbidden, or None for a guest that no list ever showed. ``doubt`` and ``why``:
    what put it in doubt, as a code and as a phrase; ``doubted_at``: since when. ``unlisted_since``: since when no list
    shows it."""

    guest: str
    believed: str | None
    fingerprint: str | None
    state: str | None
    read_at: datetime | None
    age_s: float | None
    tried_at: datetime | None
    doubt: str | None
    why: str | None
    doubted_at: datetime | None
    unlisted_since: datetime | None

    @property
    def in_doubt(self) -> bool:
        """Whether nothing is taken from the guest until it is read again."""
        return self.state in ("stale", "unread", None)


def identity_of(connection: Connection, vps_id: int) -> Identity | None:
    """The identity of a record's guest; None if the record names none or does not exist."""
    row = connection.execute(IDENTITY, {"id": vps_id}).one_or_none()
    if row is None:
        return None
    return Identity(**row._mapping, why=WHY.get(row.doubt))


IDENTITY = text("""
SELECT r.cluster || '/' || r.vmid AS guest, r.fingerprint AS believed, g.fingerprint, g.fingerprint_state AS state,
  g.fingerprint_read_at AS read_at, g.fingerprint_tried_at AS tried_at, g.doubt, g.doubted_at, g.unlisted_since,
  CAST(extract(epoch FROM clock_timestamp() - g.fingerprint_read_at) AS float8) AS age_s
FROM vps r LEFT JOIN guests g ON g.cluster = r.cluster AND g.vmid = r.vmid
WHERE r.id = :id AND r.vmid IS NOT NULL
""")
