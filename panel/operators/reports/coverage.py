"""What the last look of the runs covers: how many records can be judged, and why the others cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Connection, text

from panel.api_answer import api_answer
from panel.operator_error import must_be_one_of
from panel.operators.reports.blind_spots import (
    CLASSES,
    BlindSpot,
    BlindSpotCount,
    SpotFilter,
    count_blind_spots,
    list_blind_spots,
)
from panel.operators.reports.looks import Configured, SourceLook, look


@api_answer
@dataclass(frozen=True, slots=True)
class CoverageReport:
    """What the last look covers, and one page of what it does not."""

    records: Annotated[int, Field(description="Live records")]
    judged: Annotated[int, Field(description="Live records of which order and machine were read")]
    sources: Sequence[SourceLook]
    counts: Annotated[
        Sequence[BlindSpotCount], Field(description="By class. Each object is in one class, so they add up")
    ]
    spots: Annotated[Sequence[BlindSpot], Field(description="One page of them")]
    more: Annotated[bool, Field(description="Whether there are more after this page")]


def coverage(
    connection: Connection, configured: Configured, wanted: SpotFilter, *, limit: int, offset: int = 0
) -> CoverageReport:
    """The report as of now. ``wanted`` chooses the listed spots; the counts are of all. Raises OperatorError if there
    is no such class."""
    must_be_one_of("class", wanted.class_, CLASSES)
    seen = look(connection, configured)
    counts = count_blind_spots(connection, configured, seen)
    spots = list_blind_spots(connection, configured, seen, wanted, limit=limit + 1, offset=offset)
    records = connection.scalar(RECORDS) or 0
    unjudged = sum(one.count for one in counts if one.kind == "vps")
    return CoverageReport(records, records - unjudged, seen.sources, counts, spots[:limit], len(spots) > limit)


def coverage_as_json(report: CoverageReport) -> dict[str, Any]:
    """The report as JSON. There the field ``class_`` is called ``class``."""
    told = asdict(report)
    for name in ("counts", "spots"):
        told[name] = [{"class": one.pop("class_"), **one} for one in told[name]]
    return told


RECORDS = text("SELECT count(*) FROM vps WHERE deleted_at IS NULL")
