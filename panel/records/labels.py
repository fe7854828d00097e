"""Labels: the customer and the VPS's name of a record or an order, for operators who decide about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class VpsLabel:
    """What operators see of a VPS. ``name``: the VPS's. ``user_id``: the panel's id of the customer, None if not known.
    ``owner``: the main site's id of the customer."""

    name: str | None = None
    user_id: int | None = None
    username: str | None = None
    cluster: str | None = None
    owner: str | None = None

    @property
    def text(self) -> str:
        """In a few words: "web-01 of user 5 (ann)"."""
        user = f"user {self.user_id}" + (f" ({self.username})" if self.username else "") if self.user_id else ""
        user = user or (f"the main site's user {self.owner}" if self.owner else "")
        return " of ".join(part for part in (self.name or "", user) if part)


NO_LABEL = VpsLabel()


def labels_of(connection: Connection, subjects: Iterable[str]) -> Mapping[str, VpsLabel]:
    """Labels by subject (``vps:12``, ``order:7041``); unknown subjects are left out. It takes two statements,
    however many subjects there are."""
    distinct = set(subjects)
    records = [int(s.removeprefix("vps:")) for s in distinct if s.startswith("vps:")]
    orders = [s.removeprefix("order:") for s in distinct if s.startswith("order:")]
    labels: dict[str, VpsLabel] = {}
    if records:
        for row in connection.execute(RECORDS, {"ids": records}):
            labels[f"vps:{row.id}"] = _label_of(row)
    if orders:
        for row in connection.execute(ORDERS, {"ids": orders}):
            labels[f"order:{row.id}"] = _label_of(row)
    return labels


def _label_of(row: Any) -> VpsLabel:  # noqa: ANN401 - a Row
    return VpsLabel(row.name, row.user_id, row.username, row.cluster, row.owner)


def with_label(item: Mapping[str, Any], labels: Mapping[str, VpsLabel]) -> dict[str, Any]:
    """An item of a held set, with the VPS's name, its customer and the clusters concerned. ``labels``: from
    ``labels_of``."""
    label, values = labels.get(item["subject"], NO_LABEL), item.get("values") or {}
    is_create = item["action"] == "create"
    guest = item.get("guest")
    clusters = {guest.split("/")[0] if guest else None, label.cluster, values.get("cluster")} - {None, ""}
    return {
        **item,
        "name": values.get("name") if is_create else label.name,
        "user_id": values.get("user_id") if is_create else label.user_id,
        "username": label.username,
        "clusters": sorted(clusters),
    }


RECORDS = text(
    "SELECT r.id, r.name, r.user_id, u.username, r.cluster, u.main_site_user_id AS owner"
    " FROM vps r JOIN users u ON u.id = r.user_id WHERE r.id = ANY(CAST(:ids AS bigint[]))"
)
ORDERS = text(
    "SELECT o.order_id AS id, o.name, u.id AS user_id, u.username, o.cluster, o.owner"
    " FROM orders_seen o LEFT JOIN users u ON u.main_site_user_id = o.owner"
    " WHERE o.order_id = ANY(CAST(:ids AS text[]))"
)
