"""The page of settings, made from the settings class: ``python -m tools.settings_page > docs/settings.md``."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from panel.settings import Settings

INTRODUCTION = """\
# Settings

Made from `panel/settings.py` by `python -m tools.settings_page > docs/settings.md`; a test compares them. Do not edit.
[In Russian](ru/settings.md).

The panel reads its settings from the environment and from `.env` in the working directory; the environment wins.
[`.env.example`](../.env.example) is a file to copy and fill in. A wrong setting stops the start with one sentence that
names it. *Secret* settings have no default and are never shown; `make env` and `panel-sync run` make random ones.
"""

TABLE = """
| setting | takes | default | meaning, and why |
|---|---|---|---|
"""

WORDS: dict[object, str] = {bool: "`true` or `false`", int: "a whole number", float: "a number", str: "text"}
UNITS = {"_s": "seconds", "_days": "days", "_bytes": "bytes", "_share": "a share"}
KINDS = {
    "_url": "a URL",
    "_file": "a file",
    "_proxy": "a URL, secret",
    "jwt_algorithms": "a list",
    "ops_api_keys": "a JSON list, secret",
    "proxmox_clusters": "a JSON list, secret",
    "repair_policy": "a JSON object",
    "second_approval_above": "a whole number, at least 0, or empty",
}
"""What a setting takes, where its name says more than its type."""


def page() -> str:
    """The whole page, ending in a newline."""
    parts = [INTRODUCTION]
    for line in inspect.getsource(Settings).splitlines():
        if heading := re.fullmatch(r" {4}# --- (.+)", line):
            parts.append(f"\n## {heading[1]}\n{TABLE}")
        elif (name := re.match(r" {4}(\w+): ", line)) and name[1] in Settings.model_fields:
            parts.append(_row(name[1], Settings.model_fields[name[1]]))
    return "".join(parts)


def _row(name: str, field: FieldInfo) -> str:
    meaning = " ".join((field.description or "").split()).replace("|", "\\|")
    return f"| `{name.upper()}` | {_takes(name, field)} | {_default(field.default)} | {meaning} |\n"


def _takes(name: str, field: FieldInfo) -> str:
    kind = next((words for end, words in KINDS.items() if name.endswith(end)), None)
    if kind is None and get_origin(field.annotation) is Literal:
        kind = " or ".join(f"`{word}`" for word in get_args(field.annotation) if word)
    if kind is None and field.annotation is not SecretStr:
        kind = next((unit for end, unit in UNITS.items() if name.endswith(end)), WORDS.get(field.annotation, "text"))
    secret = field.annotation is SecretStr or not field.repr  # a URL that holds a password is not shown either
    words = [kind] if kind else []
    return ", ".join([*words, *_bounds(field), *(["secret"] if secret and "secret" not in (kind or "") else [])])


def _bounds(field: FieldInfo) -> Iterator[str]:
    low = next((limit.ge for limit in field.metadata if isinstance(limit, Ge)), None)
    high = next((limit.le for limit in field.metadata if isinstance(limit, Le)), None)
    if low is not None and high is not None:
        yield f"{low} to {high}"
    elif low is not None:
        yield f"at least {low}"
    elif any(isinstance(limit, Gt) for limit in field.metadata):
        yield "more than 0"


def _default(value: Any) -> str:  # noqa: ANN401 - of any setting
    if value is PydanticUndefined or value is None or value in ("", SecretStr("")):
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`" if value else "`[]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(page())
