"""The two documented shapes of ``panel-api``: a flat list of servers, and servers nested under their user."""

from __future__ import annotations

from sources.faults import Malformed


def servers_of(document: object, user: str) -> list[object]:
    """The raw rows of ``/users/{user}/vps`` in either shape; raises ``Malformed``."""
    data = _data(document)
    if isinstance(data, list):
        _check_count(document, data)
        return data
    if not isinstance(data, dict) or not isinstance(data.get("servers"), list):
        raise Malformed("answered 200 with neither a list nor servers")
    servers: list[object] = data["servers"]
    _check_count(data, servers)
    owner = data.get("user")
    named = owner.get("id") if isinstance(owner, dict) else None
    if named is not None and str(named) != user:
        raise Malformed("answered with another user's servers")
    return servers


def server_of(document: object) -> object:
    """The raw row of ``/vps/{id}``, alone or under ``server``; raises ``Malformed``."""
    data = _data(document)
    if isinstance(data, dict) and isinstance(data.get("server"), dict):
        return data["server"]
    if not isinstance(data, dict):
        raise Malformed("answered 200 without a server")
    return data


def _data(document: object) -> object:
    if not isinstance(document, dict):
        raise Malformed("answered 200 with no object")
    if document.get("status", "success") != "success":
        raise Malformed("answered 200 without saying success")
    if document.get("next_cursor") is not None:
        raise Malformed("answered with a part of the list")
    return document.get("data")


def _check_count(holder: object, rows: list[object]) -> None:
    for word in ("count", "total"):
        said = holder.get(word) if isinstance(holder, dict) else None
        if said is not None and said != len(rows):
            raise Malformed(f"says {word} other than the {len(rows)} servers it lists")
