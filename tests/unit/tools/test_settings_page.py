"""docs/settings.md is the settings class, told."""

from __future__ import annotations

import re
from pathlib import Path

from panel.settings import Settings
from tools.settings_page import page

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "settings.md"


def test_the_page_is_made_from_the_settings() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == page(), "run: python -m tools.settings_page > docs/settings.md"


def test_every_setting_has_a_row_and_a_meaning() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)` \| .+ \| .+ \| [\w`].+ \|$", page())
    assert rows == [name.upper() for name in Settings.model_fields]


def test_what_holds_a_key_or_a_password_is_called_secret() -> None:
    secret = set(re.findall(r"(?m)^\| `(\w+)` \| [^|]*secret \|", page()))
    hidden = {n for n, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation) or not field.repr}
    assert secret == {name.upper() for name in hidden} | {"OPS_API_KEYS", "PROXMOX_CLUSTERS"}
