"""The bill of materials: CycloneDX JSON of every pin of production.lock, the same bytes for the same lock.

cyclonedx-py writes names, versions, hashes and package URLs. This module adds the licences, from the installed
packages' own metadata, and the markers of packages that only some platforms install.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from email.message import Message
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from tools.supply_chain.locks import Pin, pins, spelt
from tools.supply_chain.tools import ROOT, ToolsFailedError, install, last_line, run

LOCK = "requirements/production.lock"
MARKER = "panel-sync:marker"

Metadata = Callable[[Pin], "Message | None"]


def write_bill(target: Path) -> int:
    """Write the bill. Returns the number of its components. Raises ToolsAwayError, ToolsFailedError."""
    install()
    arguments = ("--output-reproducible", "--of", "JSON", "--sv", "1.6", "--pyproject", "pyproject.toml", LOCK)
    ran = run("cyclonedx-py", "requirements", *arguments)
    if ran.code:
        raise ToolsFailedError(f"cyclonedx-py ended with {ran.code}: {last_line(ran.err)}")
    wanted = pins((ROOT / LOCK).read_text(encoding="utf-8"))
    bill = completed(json.loads(ran.out), wanted, installed_metadata)
    if absent := missing(bill, wanted):
        raise ToolsFailedError(f"the bill leaves out {', '.join(sorted(absent))}")
    target.write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return len(bill["components"])


def completed(bill: Mapping[str, Any], wanted: Iterable[Pin], metadata: Metadata) -> dict[str, Any]:
    """The bill with licences and markers. Package URLs identify its components instead of line numbers."""
    known = {(pin.name, pin.version): pin for pin in wanted}
    components, renamed = [], {}
    for given in bill.get("components", ()):
        component = {key: value for key, value in given.items() if key != "description"}
        renamed[given["bom-ref"]] = component["bom-ref"] = component.get("purl", given["bom-ref"])
        pin = known.get((spelt(component["name"]), component.get("version", "")))
        if pin is not None:
            component |= _optional_fields(pin, metadata(pin))
        components.append(component)
    components.sort(key=lambda component: str(component["bom-ref"]))
    dependencies = [
        {
            **entry,
            "ref": renamed.get(entry["ref"], entry["ref"]),
            **({"dependsOn": sorted(renamed.get(r, r) for r in entry["dependsOn"])} if "dependsOn" in entry else {}),
        }
        for entry in bill.get("dependencies", ())
    ]
    dependencies.sort(key=lambda entry: str(entry["ref"]))
    return {**bill, "components": components, "dependencies": dependencies}


def missing(bill: Mapping[str, Any], wanted: Iterable[Pin]) -> set[str]:
    """Pins that the bill does not name with exactly that version."""
    named = {(spelt(component["name"]), component.get("version")) for component in bill["components"]}
    return {f"{pin.name}=={pin.version}" for pin in wanted if (pin.name, pin.version) not in named}


def installed_metadata(pin: Pin) -> Message | None:
    """The metadata of the package as installed here; None if it is missing or has another version."""
    try:
        found = distribution(pin.name)
    except PackageNotFoundError:
        return None
    # It is in fact a Message, though typed as a protocol.
    return found.metadata if found.version == pin.version else None  # type: ignore[return-value]


def _optional_fields(pin: Pin, metadata: Message | None) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if pin.marker:
        fields["properties"] = [{"name": MARKER, "value": pin.marker}]
    if metadata is not None and (licences := _licences(metadata)):
        fields["licenses"] = licences
    return fields


def _licences(metadata: Message) -> list[dict[str, Any]]:
    """An SPDX expression if the package has one, else the names it gives: classifiers before free text."""
    expression = metadata.get("License-Expression")
    if expression:
        return [{"expression": str(expression)}]
    prefix = "License :: "
    names = [str(c).rpartition(" :: ")[2] for c in metadata.get_all("Classifier", []) if str(c).startswith(prefix)]
    free = str(metadata.get("License") or "").strip()
    if not names and free:
        names = [free.splitlines()[0][:100]]  # some packages put the whole licence there
    return [{"license": {"name": name}} for name in sorted(set(names))]
