"""The engine's sentences in the visitor's language. They are stored in English, and translated when a page shows them.

A catalogue in ``translations/ru/sentences/`` has each sentence with named places: ``order {order} ended``. The name
says what may stand there (``_PATTERNS``), so a stored sentence is recognised, and its values are taken over. What no
sentence fits stays English. Pure, but for reading the catalogues at the start.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from heapq import merge
from pathlib import Path

from babel.messages.pofile import read_po

from api.pages.languages import DEFAULT

CLOSED = frozenset({"state", "unit"})
"""Places in which a word of a closed set stands. The catalogue ``words.po`` has those words, by this context."""

SENTENCE, PARTS, NAMES = "why", "parts", "names"
"""Places in which other sentences stand: one, several with commas between them, or names of orders and VPS with "and"
between them."""

LONGEST = 4_000
"""Characters of a text that is translated. The engine says nothing longer; a longer text would take long to compare."""

_TIME = r"(?:\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:[+-]\d\d:\d\d|Z)?)?|\d\d:\d\d:\d\d)"
_NUMBER = r"\d+(?:\.\d+)?"
_PATTERNS = {
    **dict.fromkeys(("amount", "count", "days", "limit", "minutes", "operation", "page", "row", "seconds"), _NUMBER),
    **dict.fromkeys(("user", "vps"), r"\d+"),
    "time": _TIME,
    "list": r"\S+(?:, \S+)*",
    NAMES: r"(?:order \S+|VPS \d+)(?: and (?:order \S+|VPS \d+))*",
    **dict.fromkeys(("text", PARTS), r"[^;\s](?:[^;]*?[^;\s])??"),
    SENTENCE: r"\S(?:.*?\S)??",
}
"""By the name of a place without the digits at its end. A place with another name has one word without a space."""
_WORD = r"\S+?"

_PLACE = re.compile(r"\{([a-z]+)(\d*)\}")
_JOINT, _JOINT_OF_PARTS = re.compile(r"([.;:] )"), re.compile(r"([.;:,] )")
"""What stands between sentences."""
_MOST_PIECES, _TOGETHER, _DEEPEST = 99, 15, 5
"""Parts and joints of one text; how many of them may be one sentence (an odd number: it begins and ends with a part);
how deep sentences stand in each other. More is not looked at, so that no text takes long."""


@dataclass(frozen=True, slots=True)
class Template:
    """A sentence with named places, in English. ``parts``: the translation, its places apart from its words.
    ``weight``: how much of it is fixed. Of two that fit, the one that says more is right."""

    english: str
    parts: tuple[str, ...]
    expression: re.Pattern[str]
    weight: int


def template(english: str, told: str) -> Template:
    """The template of a message of a catalogue. The same name twice is the same value twice."""
    expression, at, seen = "", 0, set[str]()
    for place in _PLACE.finditer(english):
        name = place[1] + place[2]
        expression += re.escape(english[at : place.start()])
        expression += f"(?P={name})" if name in seen else f"(?P<{name}>{_PATTERNS.get(place[1], _WORD)})"
        seen.add(name)
        at = place.end()
    expression += re.escape(english[at:])
    parts = tuple(re.split(r"(\{[a-z]+\d*\})", told))
    return Template(english, parts, re.compile(expression, re.DOTALL), len(_PLACE.sub("", english)))


class Sentences:
    """All sentences of a language, and its words of closed sets by (name of the place, word)."""

    def __init__(self, templates: Iterable[Template], words: dict[tuple[str, str], str]) -> None:
        self._words = words
        # Most sentences begin with a fixed word, so only a few of all must be compared. The heaviest come first.
        self._fixed: dict[str, list[Template]] = defaultdict(list)
        self._open: list[Template] = []
        for one in sorted(templates, key=lambda one: (-one.weight, one.english)):
            start = one.english.partition(" ")[0]
            (self._open if _PLACE.search(start) else self._fixed[start]).append(one)
        self._cached = lru_cache(2_048)(self._told)

    def told(self, text: str) -> str:
        """The text in this language, as far as it is known."""
        return self._cached(str(text)) if len(text) <= LONGEST else text

    def _told(self, text: str, joint: re.Pattern[str] = _JOINT, depth: int = 0) -> str:
        """A text, ``depth`` sentences deep in another: as one sentence, else part by part. A sentence may hold a joint
        itself, so at each part the most that is a sentence is taken."""
        if depth > _DEEPEST:
            return text
        if (whole := self._whole(text, depth)) is not None:
            return whole
        pieces = joint.split(text)  # a part, a joint, a part, ...
        if len(pieces) > _MOST_PIECES:
            return text
        told, at = list[str](), 0
        while at < len(pieces):
            for end in range(min(at + _TOGETHER, len(pieces)), at, -2):
                if (found := self._whole("".join(pieces[at:end]), depth)) is not None:
                    break
            else:
                found, end = pieces[at], at + 1
            told += [found, *pieces[end : end + 1]]
            at = end + 1
        return "".join(told)

    def _whole(self, text: str, depth: int) -> str | None:
        """The text as one sentence; None if it is none. It may begin with a capital that the template lacks."""
        found = self._fitting(text, depth)
        if found is None and text[:1].isascii() and text[:1].isupper():
            found = self._fitting(text[0].lower() + text[1:], depth, fixed_start=True)
            return None if found is None else found[0].upper() + found[1:]
        return found

    def _fitting(self, text: str, depth: int, *, fixed_start: bool = False) -> str | None:
        fixed = self._fixed.get(text.partition(" ")[0], ())
        for one in fixed if fixed_start else merge(fixed, self._open, key=lambda one: -one.weight):
            if (match := one.expression.fullmatch(text)) is not None:
                return "".join(self._value(part, match, depth) for part in one.parts)
        return None

    def _value(self, part: str, match: re.Match[str], depth: int) -> str:
        """What a part of a translated template becomes."""
        if (place := _PLACE.fullmatch(part)) is None:
            return part
        kind, value = place[1], match[part[1:-1]]
        if kind in CLOSED:
            return self._words.get((kind, value), value)
        if kind == PARTS:
            return self._told(value, _JOINT_OF_PARTS, depth + 1)
        if kind == NAMES:
            joint = self._words.get((kind, " and "), " and ")
            return joint.join(self._whole(one, depth + 1) or one for one in value.split(" and "))
        return self._told(value, depth=depth + 1) if kind == SENTENCE else value


def sentences_of(folder: Path, language: str) -> Sentences:
    """The sentences of the catalogues in a folder."""
    templates, words = list[Template](), dict[tuple[str, str], str]()
    for english, context, told in _messages(folder, language):
        if context is None:
            templates.append(template(english, told))
        else:
            words[context, english] = told
    return Sentences(templates, words)


def _messages(folder: Path, language: str) -> Iterator[tuple[str, str | None, str]]:
    for path in sorted(folder.glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale=language):
                if message.id:
                    yield str(message.id), message.context, str(message.string)


def _unchanged(text: str) -> str:
    return text


def engine_words(language: str) -> Callable[[str], str]:
    """What a page makes of a stored text: the same in the engine's own language, a translation in others."""
    if language == DEFAULT:
        return _unchanged
    return sentences_of(Path(__file__).parent / "translations" / language / "sentences", language).told
