"""Entity tags of a client's records. A caller who names the tag of what it has is answered 304.

The database makes the number in a tag of all values that an answer shows (``panel.records.reads``). The rest of the tag
stands for what makes an answer of them: the code, and how many records were asked for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from api.http.request_headers import ETAG, etag_matches

TAG = re.compile(r'"([0-9a-f]{12})-(0|[1-9][0-9]{0,2})-([0-9a-f]{16})"')
EMPTY = 0
"""The number of an empty list."""


def fingerprint_of(files: Iterable[Path]) -> str:
    """It changes with any of the files."""
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(file.read_bytes())
    return found.hexdigest()[:12]


def _sources() -> Iterable[Path]:
    """All code from which an answer may be made: another version of it may show the same values otherwise."""
    root = Path(__file__).parents[2]
    return (file for package in ("api", "domain", "panel") for file in (root / package).rglob("*.py"))


CODE = fingerprint_of(_sources())


def entity_tag(limit: int, number: int | None) -> str:
    """The tag of an answer for which ``limit`` records were asked for. ``number``: of the records that were found."""
    return f'"{CODE}-{limit}-{(EMPTY if number is None else number) % 2**64:016x}"'


def known_numbers(if_none_match: Sequence[str], limit: int) -> list[int]:
    """The numbers of those tags that this code gave to answers of the same length."""
    named = (TAG.fullmatch(tag) for tag in ETAG.findall(",".join(if_none_match)))
    return [_signed(int(one[3], 16)) for one in named if one and one[1] == CODE and int(one[2]) == limit]


def _signed(number: int) -> int:
    """PostgreSQL's ``bigint`` of these 64 bits."""
    return number - 2**64 if number >= 2**63 else number


def is_known(if_none_match: Sequence[str], limit: int, number: int | None) -> bool:
    """Whether the caller has this answer. ``*``: any answer will do."""
    return bool(if_none_match) and etag_matches(if_none_match, entity_tag(limit, number))
