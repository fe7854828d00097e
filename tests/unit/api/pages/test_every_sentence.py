"""No sentence of the engine is without Russian. The modules that make them are searched for all that looks like one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.api.pages.sentence_files import CATALOGUE, FOLDER, ROOT

ROOMS = ("domain", "reconcile", "panel", "sources", "worker/webhooks")

NOT_SHOWN = {
    "panel/adoptions/known.py": "SQL",
    "panel/broker.py": "faults of Redis, for doctor and readyz",
    "panel/heartbeat.py": "for the container's health check",
    "panel/journal/accept.py": "answers of the API",
    "panel/journal/accept_batch.py": "answers of the API; its refusals are in the audit, and translated",
    "panel/journal/accepting": "SQL",
    "panel/journal/call_sets/apply.py": "for the task list and the log",
    "panel/journal/calls.py": "answers of the API",
    "panel/journal/publish.py": "for readyz and the log",
    "panel/journal/relay.py": "for readyz and the log",
    "panel/migrate.py": "for the command",
    "panel/monitoring": "metrics",
    "panel/observations": "SQL",
    "panel/operators/actions/users.py": "for the command",
    "panel/records/client_records.py": "SQL",
    "panel/operators/metric_families.py": "metrics",
    "panel/operators/reports/blind_spots.py": "pages say it in words of their own (spot_words.html)",
    "panel/operators/reports/money.py": "pages say it in words of their own (money_words.html)",
    "panel/operators/user_maps.py": "for the command",
    "panel/schema": "SQL",
    "panel/sessions.py": "for commands and the log",
    "panel/setting_conflicts.py": "refused settings end the process",
    "panel/settings.py": "refused settings end the process",
    "reconcile/decision/table_document.py": "makes a document",
    "reconcile/run_phases.py": "the progress of a task, for Flower",
    "reconcile/users.py": "the progress of a task, for Flower",
    "reconcile/vps_statistics.py": "results of tasks, for Flower",
    "sources/config.py": "refused settings end the process",
    "sources/proxmox/power.py": "kept beside a power action, and not shown",
    "sources/proxmox/statistics.py": "for the log",
}
"""Modules whose sentences are on no page, and where they are instead."""

ALSO_NOT_SHOWN = {
    "its task was found", "looked at again in {} s", "it is over, or another worker has it", "{} is done, next is {}",
    "Proxmox reset it, and it runs", "nothing to repair", "{} source problems", "{} of {} written, {} left to the next",
    "reading the main site and new guests", "run {} was fenced after {} repairs",
    "epoch {} was replaced by {}", "DISCARD TEMP", "RESET ALL", "what concerns {} is applied",
    "{} second of two", "unknown operation", "look-up of a name", "a proxy's address must read",
    "{} sent, {} not taken", "cannot be asked for {}", "not usable", "MAIN_SITE_URL: {}; check",
    "set it to the key that the main site expects", "An operator decided it", '[{"subject": "vps:{}"}]',
    "the main site's {} interface", "check token_id", "check fingerprint or ca_file", "check urls of this cluster",
    "{} of {} node(s) online", "without {} on /vms", "pveum acl modify", "is not a list of points",
    "{} is not a list of tasks", "is not the status of a task", "needs the approval of two operators",
}  # fmt: skip
"""Beginnings or parts of further sentences that are on no page: results of tasks, doctor's, the log's."""

WITHOUT_WORDS = {
    "Field", "text", "span", "inner_span", "compile", "execute", "scalar", "strftime", "action", "ValueError",
    "TypeError", "RuntimeError", "AssertionError", "KeyError", "LookupError",
}  # fmt: skip
"""Calls whose arguments are no sentences for a page."""

SQL = re.compile(
    r"\b(SELECT|FROM|WHERE|UPDATE|INSERT|RETURNING|AND|OR|JOIN|IS NULL|IS TRUE|VALUES|ORDER BY|SET|ON CONFLICT|LISTEN"
    r"|CASE|END|CAST|AS)\b|::|interval '|coalesce\(|make_interval|\b\w\.\w+ [=<]|->>| [<>]=? "
)
JOINTS = re.compile(r"[.;:,] ")
HOLE = "{}"


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """(line, sentence with ``{}`` for each value) of all in a module that looks like a sentence."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    passed = set(map(id, _without_words(tree)))
    for node in ast.walk(tree):
        if id(node) in passed or not isinstance(node, ast.Constant | ast.JoinedStr):
            continue
        told = _told(node).replace(f"{HOLE}/{HOLE}", HOLE)
        if " " in told.strip() and _words(told) >= 2 and not SQL.search(told):
            yield node.lineno, told


def _without_words(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value  # a docstring
        elif isinstance(node, ast.JoinedStr):
            yield from (part for part in ast.walk(node) if part is not node and isinstance(part, ast.Constant))
            yield from (part.format_spec for part in ast.walk(node) if isinstance(part, ast.FormattedValue)
                        if part.format_spec is not None)  # fmt: skip
        elif isinstance(node, ast.Call) and _name(node.func) in WITHOUT_WORDS:
            yield from ast.walk(node)


def _name(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def _told(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values)


def _words(text: str) -> int:
    return len(re.findall(r"[A-Za-z]{2,}", text))


def is_known(sentence: str) -> bool:
    """Whether a message of a catalogue has it, wholly or as one of its parts, or messages have all of its parts."""
    if _in_catalogue(sentence):
        return True
    parts = [part for part in JOINTS.split(sentence) if _words(part) >= 2]
    return bool(parts) and parts != [sentence] and all(map(_in_catalogue, parts))


def _in_catalogue(sentence: str) -> bool:
    bare = sentence.strip(" ;:,.")
    held = re.compile(".*".join(map(re.escape, bare.split(HOLE))), re.IGNORECASE)
    return any(held.search(message.english) for message in CATALOGUE)


def shown_modules() -> list[Path]:
    found = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    names = {path: path.relative_to(ROOT).as_posix() for path in found}
    return [p for p in found if not any(names[p] == no or names[p].startswith(f"{no}/") for no in NOT_SHOWN)]


@pytest.mark.parametrize("path", shown_modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_sentence_has_russian(path: Path) -> None:
    missing = [
        f"line {line}: {sentence}"
        for line, sentence in sentences(path)
        if not is_known(sentence) and not any(part in sentence for part in ALSO_NOT_SHOWN)
    ]
    assert not missing, (
        f"{path.relative_to(ROOT)} says what Russian pages would show in English:\n" + "\n".join(missing) + "\n"
        f"Add it with its Russian to a file of {FOLDER.relative_to(ROOT)}, with a name in braces for each value. If no "
        "page shows it, say so in NOT_SHOWN or ALSO_NOT_SHOWN of this test"
    )


def test_the_search_finds_sentences() -> None:
    found = {sentence for _, sentence in sentences(ROOT / "reconcile/decision/deletes.py")}
    assert "order {} ended and its guest is gone: a missed delete" in found
    assert "VPS {} was restored and is protected until {}" in found
    assert sum(len(list(sentences(path))) for path in shown_modules()) > 600


def test_a_new_sentence_is_missed() -> None:
    assert not is_known("order {} was painted green, and nobody knows why")
    assert not is_known("the order vanished at full moon")
    assert is_known("order {} ended and its guest is gone: a missed delete")


@pytest.mark.parametrize("place", NOT_SHOWN)
def test_what_is_left_out_is_there(place: str) -> None:
    assert (ROOT / place).exists()
