"""A power action for an operator: who asked for it, what was sent, and what came of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from domain.power.actions import TOLD, Action
from panel.records.told import moment


def power_headline(row: Row[Any]) -> str:
    """Who asked for what, and how it stands."""
    name = f" ({row.username})" if row.username else ""
    what = TOLD[Action(row.action), row.force]
    ended = f" {moment(row.ended_at)}" if row.ended_at is not None else ""
    return f"customer {row.user_id}{name} asked: {what}; {row.state}{ended}  (power action {row.id})"


def power_lines(row: Row[Any]) -> list[str]:
    """What came of an action: the reason, what was sent where, and what Proxmox said."""
    lines = []
    if row.reason is not None:
        lines.append(f"{row.code}: {row.reason}" if row.code is not None else row.reason)
    if row.sending_at is not None:
        task = f", task {row.upid}" if row.upid is not None else ""
        lines.append(f"{row.command} for {row.node}, noted at {moment(row.sending_at)} UTC{task}")
    if row.evidence:
        lines.append("evidence: " + ", ".join(f"{name}={told}" for name, told in row.evidence.items()))
    return lines
