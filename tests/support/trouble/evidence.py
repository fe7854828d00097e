"""What was seen while everything went wrong, and a search in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Evidence:
    """What was seen, by place, and what must not be in it."""

    secrets: set[str]
    places: dict[str, str] = field(default_factory=dict)

    def see(self, place: str, text: str) -> None:
        self.places[place] = self.places.get(place, "") + text

    def of(self, kind: str) -> dict[str, str]:
        """The places of that kind, none of them empty."""
        found = {place: text for place, text in self.places.items() if place.startswith(kind)}
        assert found
        assert all(found.values()), [place for place, text in found.items() if not text]
        return found


def found_in(places: Mapping[str, str], words: set[str] | frozenset[str]) -> dict[str, list[str]]:
    """Which places hold which words, each shown with what stands around it."""
    return {
        place: [text[max(0, text.index(word) - 150) : text.index(word) + 60] for word in words if word in text]
        for place, text in places.items()
        if any(word in text for word in words)
    }
