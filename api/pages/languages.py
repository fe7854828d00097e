"""Which language a page is in, and the texts of each. English is in the code, Russian in ``translations/ru/``."""

from __future__ import annotations

import io
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations

LANGUAGES = {"en": "English", "ru": "Русский"}
"""By code, as its own speakers write it."""

DEFAULT = "en"

_FOLDER = Path(__file__).parent / "translations"


def language_of(cookie: str | None, accept_language: str) -> str:
    """The language of the cookie, else the one that ``Accept-Language`` prefers among those there are."""
    if cookie in LANGUAGES:
        return cookie
    preferred = sorted(map(_weighed, accept_language.split(",")), reverse=True, key=lambda choice: choice[0])
    for weight, code in preferred:  # sorting keeps the order of equal weights
        if weight > 0 and code in LANGUAGES:
            return code
    return DEFAULT


def _weighed(choice: str) -> tuple[float, str]:
    """The weight and the language of one choice: "ru-RU;q=0.8" is (0.8, "ru"). What cannot be read weighs nothing."""
    name, _, parameter = choice.partition(";")
    code = name.strip().partition("-")[0].lower()
    if not parameter.strip():
        return 1.0, code
    try:
        return float(parameter.strip().removeprefix("q=")), code
    except ValueError:
        return 0.0, code


def translations_of(language: str) -> NullTranslations:
    """The texts of a language. A catalogue is compiled in memory, so neither a checkout nor a wheel needs a step."""
    if language == DEFAULT:
        return NullTranslations()
    first, *others = [_compiled(path, language) for path in sorted((_FOLDER / language).glob("*.po"))]
    for other in others:
        first.merge(other)
    return first


def _compiled(path: Path, language: str) -> Translations:
    with path.open("rb") as file:
        catalogue = read_po(file, locale=language)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)
