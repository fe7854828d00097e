"""The addresses of the page before and the page after one page of a list. Pure but for the panel's root path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from api.pages.rendering import link


def neighbours(path: str, asked: Mapping[str, object], number: int, *, more: bool) -> dict[str, Any]:
    """``earlier`` and ``following``, as the templates call them. ``asked``: the filter, whose empty values are left
    out. ``more``: whether there is a page after this one."""
    kept = {name: value for name, value in asked.items() if value}

    def address(page: int) -> str:
        query = urlencode(kept | ({"page": page} if page > 1 else {}))
        return link(f"{path}?{query}" if query else path)

    return {"earlier": address(number - 1) if number > 1 else None, "following": address(number + 1) if more else None}
