"""What the filter of a page may be. A form sends an empty value for what is left open."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

OfClass = Annotated[str, Query(alias="class", pattern=r"^([a-z-]{1,64})?$")]
OfCluster = Annotated[str, Query(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,62})?$")]
OfUser = Annotated[str, Query(pattern="^([1-9][0-9]{0,17})?$")]

PER_PAGE = 50


def user_id(user: str) -> int | None:
    """The customer of the filter; None if it is left open."""
    return int(user) if user else None
