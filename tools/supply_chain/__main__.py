"""``python -m tools.supply_chain audit [--strict]`` and ``python -m tools.supply_chain sbom [FILE]``."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.supply_chain.bill import write_bill
from tools.supply_chain.tools import ROOT, ToolsAwayError, ToolsFailedError
from tools.supply_chain.vulnerabilities import LOCKS, audit

USAGE = "usage: python -m tools.supply_chain audit [--strict] [LOCK ...] | sbom [FILE]\n"


def main(arguments: list[str]) -> int:
    """Run one of the two. Returns the exit code (0: all is well)."""
    match arguments:
        case ["audit", *rest]:
            return _audit([lock for lock in rest if lock != "--strict"] or list(LOCKS), strict="--strict" in rest)
        case ["sbom", *rest] if len(rest) < 2:
            return _sbom(Path(rest[0]) if rest else ROOT / "sbom.json")
    sys.stderr.write(USAGE)
    return 2


def _audit(locks: list[str], *, strict: bool) -> int:
    found = audit(locks)
    for sentence in found.sentences:
        sys.stdout.write(f"{found.outcome.value}: {sentence}\n")
    return found.exit_code(strict=strict)


def _sbom(target: Path) -> int:
    try:
        count = write_bill(target)
    except (ToolsAwayError, ToolsFailedError) as error:
        sys.stdout.write(f"no bill of materials: {error}\n")
        return 2
    sys.stdout.write(f"{target}: {count} components\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
