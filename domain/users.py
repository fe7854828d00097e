"""A customer as the main site names them. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class User:
    """One user as the main site's feed showed it."""

    main_site_user_id: str
    username: str
    email: str | None = None
    email_verified: bool = False
    panel_user_id: int | None = None
