"""Every text of the pages is there in Russian, and each visitor gets a language of theirs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from api.pages.languages import language_of

PAGES = Path(__file__).resolve().parents[4] / "api" / "pages"
JINJA = {"newstyle_gettext": "true", "trim_blocks": "true", "lstrip_blocks": "true"}


def test_the_catalogues_have_every_text_once_and_no_other() -> None:
    found = extract_from_dir(PAGES / "templates", [("**.html", "jinja2")], {"**.html": JINJA})
    used = {(context, message) for _, _, message, _, context in found}
    messages = []
    for path in (PAGES / "translations" / "ru").glob("*.po"):
        with path.open("rb") as file:
            messages += [message for message in read_po(file, locale="ru") if message.id]
    catalogue = {(message.context, message.id): message.string for message in messages}
    assert len(catalogue) == len(messages), "a text stands in two files"
    assert len(used) > 60
    assert set(catalogue) == used
    for (_, english), russian in catalogue.items():
        source = english if isinstance(english, str) else english[0]
        for text in map(str, russian if isinstance(russian, tuple) else (russian,)):
            assert text, source
            assert set(re.findall(r"%\(\w+\)s", text)) == set(re.findall(r"%\(\w+\)s", source)), source


@pytest.mark.parametrize(
    ("cookie", "accepted", "chosen"),
    [
        pytest.param(None, "", "en", id="nothing said"),
        pytest.param(None, "ru-RU,ru;q=0.9,en-US;q=0.8", "ru", id="a Russian browser"),
        pytest.param(None, "en-GB,en;q=0.9,ru;q=0.8", "en", id="an English browser"),
        pytest.param(None, "de-DE,de;q=0.9,ru;q=0.5,en;q=0.3", "ru", id="a German who knows Russian better"),
        pytest.param(None, "de", "en", id="neither"),
        pytest.param(None, "ru;q=0, de", "en", id="no Russian please"),
        pytest.param(None, "ru;q=x,,;,en;q=nan", "en", id="nonsense"),
        pytest.param("en", "ru", "en", id="the cookie decides"),
        pytest.param("xx", "ru", "ru", id="a cookie of another language"),
    ],
)
def test_the_language(cookie: str | None, accepted: str, chosen: str) -> None:
    assert language_of(cookie, accepted) == chosen
