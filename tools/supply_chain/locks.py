"""The pins of a lock file."""

from __future__ import annotations

import re
from dataclasses import dataclass

PIN = re.compile(r"(?m)^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)(?:[ \t]*;[ \t]*([^\\\n]*?))?[ \t]*\\?$")


@dataclass(frozen=True, slots=True)
class Pin:
    """One package at one version. ``marker``: on which platforms it is installed; empty: on all."""

    name: str
    version: str
    marker: str = ""


def pins(text: str) -> tuple[Pin, ...]:
    """Every pin of a lock file's text, in its order; names as PEP 503 spells them."""
    return tuple(Pin(spelt(match[1]), match[2], match[3] or "") for match in PIN.finditer(text))


def spelt(name: str) -> str:
    """A package's name in its one normal spelling."""
    return re.sub(r"[-_.]+", "-", name).lower()
