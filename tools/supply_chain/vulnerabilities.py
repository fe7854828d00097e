"""Known vulnerabilities of the pinned packages, by pip-audit. The outcome is found, none, or not checked.

pip-audit exits with 0 and "No known vulnerabilities found" if its service knows none of the packages (a mirror without
that service), and with a traceback if no server answers. Neither is a clean result.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tools.supply_chain.tools import (
    NETWORK_AWAY,
    Ran,
    ToolsAwayError,
    ToolsFailedError,
    install,
    last_line,
    run,
)

LOCKS = ("requirements/production.lock", "requirements/dev.lock")


class Outcome(StrEnum):
    """The outcome of an audit."""

    CLEAN = "clean"
    VULNERABLE = "vulnerable"
    NOT_CHECKED = "not checked"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Audit:
    """An outcome and the sentences that explain it."""

    outcome: Outcome
    sentences: tuple[str, ...]

    def exit_code(self, *, strict: bool) -> int:
        """0 lets the build continue. "Not checked" also does, because builds must work offline, but not under
        ``strict`` (a release)."""
        codes = {Outcome.CLEAN: 0, Outcome.VULNERABLE: 1, Outcome.FAILED: 2, Outcome.NOT_CHECKED: 3 if strict else 0}
        return codes[self.outcome]


def audit(locks: Sequence[str] = LOCKS) -> Audit:
    """Check every pin of the lock files. PIP_AUDIT_VULNERABILITY_SERVICE (pypi, osv), pip-audit's own variable, names
    the service."""
    try:
        install()
    except ToolsAwayError as error:
        return Audit(Outcome.NOT_CHECKED, (f"no network: {error}",))
    except ToolsFailedError as error:
        return Audit(Outcome.FAILED, (str(error),))
    named = [argument for lock in locks for argument in ("-r", lock)]
    # --disable-pip: pins and hashes are taken as they are; pip resolves and downloads nothing.
    return judge(
        run("pip-audit", "--progress-spinner=off", "--format=json", "--disable-pip", "--require-hashes", *named)
    )


def judge(ran: Ran) -> Audit:
    """What pip-audit's exit code and output mean together."""
    try:
        rows: list[dict[str, Any]] = json.loads(ran.out)["dependencies"]
    except (ValueError, KeyError, TypeError):
        if NETWORK_AWAY.search(ran.err):
            return Audit(Outcome.NOT_CHECKED, ("no network: the vulnerability service did not answer",))
        return Audit(Outcome.FAILED, (f"pip-audit ended with {ran.code}: {last_line(ran.err)}",))
    vulnerable = tuple(_sentence(row, vuln) for row in rows for vuln in row.get("vulns", ()))
    skipped = [row["name"] for row in rows if "skip_reason" in row]
    if vulnerable:
        return Audit(Outcome.VULNERABLE, vulnerable)
    if ran.code or not rows:
        return Audit(Outcome.FAILED, (f"pip-audit ended with {ran.code}, {len(rows)} packages and no vulnerability",))
    if len(skipped) == len(rows):
        away = "no network to it, or a mirror without it"
        sentence = f"{away}: the vulnerability service knows none of {len(rows)} packages"
        return Audit(Outcome.NOT_CHECKED, (sentence,))
    if skipped:
        return Audit(Outcome.NOT_CHECKED, (f"{len(rows) - len(skipped)} clean, but unknown: {', '.join(skipped)}",))
    return Audit(Outcome.CLEAN, (f"no known vulnerability in {len(rows)} packages",))


def _sentence(row: dict[str, Any], vuln: dict[str, Any]) -> str:
    fixed = ", ".join(vuln.get("fix_versions", ())) or "no version yet"
    return f"{row['name']} {row['version']}: {vuln['id']} (mended in {fixed})"
