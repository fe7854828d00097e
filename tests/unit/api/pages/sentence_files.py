"""The catalogues of the engine's sentences, as the tests read them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parents[4]
FOLDER = ROOT / "api" / "pages" / "translations" / "ru" / "sentences"
PLACE = re.compile(r"\{([a-z]+\d*)\}")


@dataclass(frozen=True)
class Message:
    english: str
    russian: str


def _messages() -> Iterator[tuple[str | None, str, str]]:
    for path in sorted(FOLDER.glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale="ru"):
                if message.id:
                    yield message.context, str(message.id), str(message.string)


CATALOGUE = [Message(english, russian) for context, english, russian in _messages() if context is None]
WORDS = {(context, english): russian for context, english, russian in _messages() if context is not None}


def placed(text: str, values: Mapping[str, str]) -> str:
    """A text with values in its places."""
    return PLACE.sub(lambda place: values[place[1]], text)
