"""Text for terminals: escapes the characters that move the cursor, change colours or turn the reading direction."""

from __future__ import annotations

import unicodedata
from typing import TextIO

ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: control and format characters, surrogates, line and paragraph separators."""

JOINER = "\u200d"  # joins emoji and does nothing else


def printable(text: str, *, keep: str = "") -> str:
    """The text with control, format and separator characters as escapes, except those in ``keep``. Pure."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c in keep or c == JOINER or unicodedata.category(c) not in ESCAPED else _escaped(c) for c in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def encodable(*streams: TextIO) -> None:
    """Let these streams write a character outside their encoding as an escape (``\\u0441``) instead of failing."""
    for stream in streams:
        # Tests and callers may have replaced the process's own streams by objects without this method.
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")
