"""docs/security.md names tests that exist, for every trust boundary; and small promises that it makes."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import celeryconfig

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "security.md"
SOURCE = ["api", "benchmarks", "cli", "domain", "lab", "migrations", "panel", "reconcile", "runtime", "sources",
          "tests", "tools", "tracing", "worker"]  # fmt: skip
STRIDE = {"spoofing", "tampering", "repudiation", "disclosure", "denial", "elevation"}
BOUNDARIES = [
    "Main site → API",
    "Client → API",
    "Operator → API",
    "Operator on the host",
    "Flower",
    "Redis",
    "PostgreSQL",
    "Proxmox API",
    "Main site's feed",
    "Data that customers control",
    "What the panel is built from",
    "Logs",
]


def sections() -> dict[str, str]:
    """The threat model's boundaries: heading to text."""
    model = PAGE.read_text(encoding="utf-8").partition("\n## Threat model\n")[2].partition("\n## ")[0]
    parts = re.split(r"(?m)^### (.+)$", model)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def threats(section: str) -> list[list[str]]:
    """The cells of the rows of a boundary's table: threat, what stands against it, tests."""
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| threat")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


NAMED = sorted(set(re.findall(r"`([\w/]+\.py::\w+)`", PAGE.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_each_boundary_names_assets_attackers_and_a_test_for_each_threat(boundary: str) -> None:
    found = [text for heading, text in sections().items() if heading.startswith(boundary)]
    assert len(found) == 1
    assert "*Asset*" in found[0]
    assert "*Attacker*" in found[0]
    rows = threats(found[0])
    assert len(rows) >= 3
    for threat, against, tests in rows:
        kinds = {kind.strip() for kind in threat.partition(":")[0].split(",")}
        assert kinds <= STRIDE, threat
        assert against
        assert re.fullmatch(r"`[\w/]+\.py::\w+`(, `[\w/]+\.py::\w+`)*", tests), threat


@pytest.mark.parametrize("named", NAMED)
def test_every_named_test_exists(named: str) -> None:
    path, _, function = named.partition("::")
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert function.startswith("test_")
    assert function in functions


def test_every_exception_from_the_security_rules_says_why() -> None:
    files = [path for name in SOURCE for path in (ROOT / name).rglob("*.py")]
    assert len(files) > 300
    # Whatever else the comment says, a security rule that is set aside is followed by " - " and words.
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"#\s*noqa:[^-]*\bS\d{3}\b", line) and not re.search(r"\bS\d{3}\b[^-]* - \w+", line)
    ]
    assert bare == []


def test_the_security_rules_are_on_and_their_general_exceptions_are_documented() -> None:
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    general = {*lint["ignore"], *(rule for rules in lint["per-file-ignores"].values() for rule in rules)}
    document = PAGE.read_text(encoding="utf-8").partition("\n## Exceptions from the security lint\n")[2]
    assert {rule for rule in general if re.fullmatch(r"S\d+", rule)} <= set(re.findall(r"S\d{3}", document))


def test_messages_are_json() -> None:
    """Nothing that arrives by the broker is unpickled."""
    assert celeryconfig.accept_content == ["json"]
    assert celeryconfig.task_serializer == "json"


def test_sources_only_read_but_for_power_commands() -> None:
    """No request to Proxmox or to the main site's feed has another method than GET. There is one exception: power
    commands, which one function sends, once each."""
    calls = [
        (path.name, node.func.attr, ast.unparse(node.args[0]) if node.args else "")
        for path in (ROOT / "sources").rglob("*.py")
        if path.parent.name != "outgoing"  # the client itself, which the webhook has, too
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    others = {"put", "patch", "delete", "request", "send", "stream"}
    assert [name for name, method, _ in calls if method in others] == []
    assert sorted(call for call in calls if call[1] == "exchange") == [
        ("json_client.py", "exchange", "'GET'"),
        ("json_client.py", "exchange", "'POST'"),
    ]
    posts = sorted(name for name, method, _ in calls if method == "post")
    assert posts == ["endpoint.py", "endpoint.py", "power.py"], "the endpoint, its session, and who commands"
