"""The overview and the view of one VPS as JSON, for programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Row

from panel.operators.findings import finding_as_json
from panel.operators.pages.overview import Overview
from panel.operators.pages.vps_view import VpsView


def overview_as_json(now: Overview) -> dict[str, Any]:
    """What the page that operators open first shows."""
    told = {field.name: _plain(getattr(now, field.name)) for field in fields(now)}
    told["findings"] = [finding_as_json(one) for one in now.findings]
    told["matters"] = [
        {
            "class": one.class_,
            "severity": one.severity,
            "finding": None if one.finding is None else finding_as_json(one.finding),
            "others": one.others,
        }
        for one in now.matters
    ]
    return told | {"not_in_sync": now.not_in_sync}


def vps_as_json(view: VpsView) -> dict[str, Any]:
    """One VPS as order, panel and Proxmox say it, and what stands in the way of making them agree."""
    told = {field.name: _plain(getattr(view, field.name)) for field in fields(view)}
    told["lines"] = [asdict(line) | {"differs": line.differs} for line in view.lines]
    told["findings"] = [finding_as_json(one) for one in view.findings]
    return told


def _plain(value: Any) -> Any:  # noqa: ANN401 - of any field
    if isinstance(value, Row):
        return dict(value._mapping)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value
