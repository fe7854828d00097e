"""What an operation rests on, in one sentence for people. Its raw evidence stays beside it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeGuard

CONFIRMED = "confirmed_"
"""What a run asked again just before the write; the key ends in the word of the question."""


def evidence_told(evidence: Mapping[str, Any] | None) -> str | None:
    """The known keys of an operation's evidence as a sentence; None if none of them is known."""
    parts = list(_parts(evidence or {}))
    if not parts:
        return None
    told = "; ".join(parts)
    return told[0].upper() + told[1:]


def _parts(evidence: Mapping[str, Any]) -> Iterator[str]:
    for what in ("guest", "order"):
        times, since = evidence.get(f"{what}_absent_times"), evidence.get(f"{what}_absent_since")
        if times is not None and since is not None:
            name = f" {evidence[what]}" if evidence.get(what) else ""
            found = f"{times} complete read{'' if times == 1 else 's'}"
            yield f"{what}{name} was missing in {found}, {_period(str(since), _last_read(evidence, what))}"
    if "order_status" in evidence:
        yield f"the main site called the order {evidence['order_status']}{_at(evidence.get('effective_at'))}"
    elif "effective_at" in evidence:
        yield f"the order says so{_at(evidence['effective_at'])}"
    if "guest_status" in evidence:
        yield f"Proxmox showed the guest {evidence['guest_status']}"
    if _are_times(sweeps := evidence.get("sweeps")):
        yield f"two full reads of the orders said the same, {_times(sweeps)}"
    if _are_times(reads := evidence.get("reads")):
        yield f"Proxmox showed it in the read{'s' if len(reads) > 1 else ''} of {_times(reads)}"
    if evidence.get("identity") and evidence.get("identity_read_at"):
        yield f"the guest's machine was read{_at(evidence['identity_read_at'])}"
    if evidence.get("buyer"):
        yield f"order {evidence['buyer']} names the machine{_since(evidence.get('named_since'))}"
    answers = dict.fromkeys(str(value) for key, value in evidence.items() if key.startswith(CONFIRMED))
    if answers:
        yield f"asked again just before: {', '.join(answers)}"
    if "by" in evidence:
        yield f"decided by {evidence['by']}"


def _last_read(evidence: Mapping[str, Any], what: str) -> str | None:
    """When the last of the reads that missed it was true, if they are in the evidence."""
    counted, reads = _list(evidence.get(f"{what}_snapshots")), _list(evidence.get("reads"))
    times = [
        read.get("effective_at") or read.get("began_at")
        for read in reads
        if isinstance(read, Mapping) and read.get("snapshot") in counted
    ]
    return max((str(at) for at in times if at), default=None)


def _period(since: str, until: str | None) -> str:
    """From and to, the second time without its day if it is the same day."""
    start, end = _second(since), _second(until) if until is not None else None
    if end is None or end <= start:
        return f"since {start} UTC"
    return f"{start} to {end.removeprefix(start[:11])} UTC"


def _at(at: object) -> str:
    return f" ({_second(str(at))} UTC)" if at else ""


def _since(at: object) -> str:
    return f" since {_second(str(at))} UTC" if at else ""


def _times(times: Sequence[str]) -> str:
    return " and ".join(f"{_second(str(at))} UTC" for at in times)


def _are_times(reads: object) -> TypeGuard[list[str]]:
    return isinstance(reads, list) and bool(reads) and all(isinstance(read, str) for read in reads)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _second(at: str) -> str:
    """An ISO time to the second. What is none stays as it is."""
    try:
        return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return at
