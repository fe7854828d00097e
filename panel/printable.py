"""Text for terminals: what would move the cursor, change colours or turn the reading direction is shown, not done."""

from __future__ import annotations

import unicodedata
from typing import TextIO

SHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
JOINER = "\u200d"  # holds emoji together, and does nothing else


def printable(text: str, *, keep: str = "") -> str:
    """The text with control, format and separator characters as escapes; those in ``keep`` stay. Pure."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or c == JOINER or unicodedata.category(c) not in SHOWN else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def encodable(*streams: TextIO) -> None:
    """What a stream's encoding does not know is written as an escape (``\\u0441``), and is no error."""
    for stream in streams:
        # Tests and callers put streams of other kinds in the place of the process's own.
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")
