"""The bill of materials: every pin, its licence and marker, the same bytes whatever order the tool wrote."""

from __future__ import annotations

from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from tools.supply_chain.bill import completed, installed_metadata, missing
from tools.supply_chain.locks import Pin, pins

PRODUCTION = Path(__file__).resolve().parents[4] / "requirements" / "production.lock"

LOCK = """\
amqp==5.4.2 \\
    --hash=sha256:93 \\
    --hash=sha256:e6
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:08
Zope.Interface==7.2 \\
    --hash=sha256:01
"""


def component(name: str, version: str, line: int) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version}"
    return {"bom-ref": f"L{line}", "name": name, "version": version, "purl": purl, "description": f"line {line}"}


def metadata(**headers: str | list[str]) -> Message:
    made = Message()
    for name, values in headers.items():
        for value in [values] if isinstance(values, str) else values:
            made[name.replace("_", "-")] = value
    return made


def test_pins_of_a_lock() -> None:
    assert pins(LOCK) == (
        Pin("amqp", "5.4.2"),
        Pin("colorama", "0.4.6", "sys_platform == 'win32'"),
        Pin("zope-interface", "7.2"),
    )


def test_the_production_lock_is_read_to_its_last_pin() -> None:
    text = PRODUCTION.read_text(encoding="utf-8")
    found = pins(text)
    assert len(found) == sum("==" in line and not line.startswith(" ") for line in text.splitlines())
    assert {"celery", "fastapi", "psycopg-binary", "sqlalchemy"} <= {pin.name for pin in found}


def test_components_get_licences_and_markers_and_no_line_numbers() -> None:
    given: dict[str, Any] = {
        "components": [component("colorama", "0.4.6", 4), component("amqp", "5.4.2", 1)],
        "dependencies": [{"ref": "L4"}, {"ref": "L1", "dependsOn": ["L4"]}],
    }
    made = completed(
        given, pins(LOCK), lambda pin: metadata(License_Expression="BSD-3-Clause") if pin.name == "amqp" else None
    )
    amqp, colorama = made["components"]
    assert amqp["licenses"] == [{"expression": "BSD-3-Clause"}]
    assert colorama["properties"] == [{"name": "panel-sync:marker", "value": "sys_platform == 'win32'"}]
    assert "licenses" not in colorama
    assert made["dependencies"] == [
        {"ref": "pkg:pypi/amqp@5.4.2", "dependsOn": ["pkg:pypi/colorama@0.4.6"]},
        {"ref": "pkg:pypi/colorama@0.4.6"},
    ]
    assert not [c for c in made["components"] if "description" in c]
    turned = given | {"components": given["components"][::-1], "dependencies": given["dependencies"][::-1]}
    assert completed(turned, pins(LOCK), lambda _pin: None) == completed(given, pins(LOCK), lambda _pin: None)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"License_Expression": "MIT", "License": "x"}, [{"expression": "MIT"}]),
        (
            {"Classifier": ["License :: OSI Approved :: MIT License", "Topic :: Internet"], "License": "whatever"},
            [{"license": {"name": "MIT License"}}],
        ),
        ({"License": "Copyright (c)\nall of it"}, [{"license": {"name": "Copyright (c)"}}]),
        ({}, None),
    ],
)
def test_licences(headers: dict[str, Any], expected: object) -> None:
    made = completed({"components": [component("amqp", "5.4.2", 1)]}, pins(LOCK), lambda _pin: metadata(**headers))
    assert made["components"][0].get("licenses") == expected


def test_what_the_bill_leaves_out_is_named() -> None:
    wanted = (Pin("amqp", "5.4.2"), Pin("kombu", "5.7.0"), Pin("vine", "5.1.0"))
    bill = {"components": [{"name": "AMQP", "version": "5.4.2"}, {"name": "kombu", "version": "5.6.0"}]}
    assert missing(bill, wanted) == {"kombu==5.7.0", "vine==5.1.0"}


def test_a_licence_is_that_of_the_pinned_version() -> None:
    installed = next(pin for pin in pins(PRODUCTION.read_text(encoding="utf-8")) if pin.name == "celery")
    assert installed_metadata(installed) is not None
    assert installed_metadata(Pin("celery", "0.0.1")) is None
    assert installed_metadata(Pin("no-such-package-here", "1")) is None
