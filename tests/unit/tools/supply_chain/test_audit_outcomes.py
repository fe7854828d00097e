"""What pip-audit's and pip's words mean: a clean bill, a vulnerability, nobody asked, and tampering are four things."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tools.supply_chain.tools import Ran, ToolsAwayError, ToolsFailedError, judge_installation
from tools.supply_chain.vulnerabilities import Audit, Outcome, judge

CLEAN = {"name": "amqp", "version": "5.4.2", "vulns": []}
SKIPPED = {"name": "vine", "skip_reason": "Dependency not found and could not be audited: vine (5.1.0)"}
VULNERABLE = {"name": "kombu", "version": "5.7.0", "vulns": [{"id": "CVE-1", "fix_versions": ["5.7.1"], "aliases": []}]}
UNFIXED = {"name": "redis", "version": "8.0.0", "vulns": [{"id": "CVE-2", "fix_versions": [], "aliases": []}]}
NOBODY = "requests.exceptions.ConnectionError: HTTPSConnectionPool: Max retries exceeded (NewConnectionError)"


def ran(*rows: dict[str, Any], code: int = 0) -> Ran:
    return Ran(code, json.dumps({"dependencies": rows, "fixes": []}), "")


@pytest.mark.parametrize(
    ("given", "outcome", "codes", "says"),
    [
        pytest.param(ran(CLEAN), Outcome.CLEAN, (0, 0), "no known vulnerability in 1 packages", id="clean"),
        pytest.param(ran(VULNERABLE, CLEAN, code=1), Outcome.VULNERABLE, (1, 1), "mended in 5.7.1", id="vulnerable"),
        pytest.param(ran(UNFIXED, code=1), Outcome.VULNERABLE, (1, 1), "mended in no version yet", id="no fix yet"),
        pytest.param(
            ran(VULNERABLE, SKIPPED, code=1), Outcome.VULNERABLE, (1, 1), "CVE-1", id="what was found outweighs a gap"
        ),
        pytest.param(Ran(1, "", NOBODY), Outcome.NOT_CHECKED, (0, 3), "no network", id="nobody answers"),
        pytest.param(
            Ran(1, "", "socket.gaierror: Temporary failure in name resolution"),
            Outcome.NOT_CHECKED,
            (0, 3),
            "no network",
            id="no name service",
        ),
        pytest.param(
            Ran(1, "", "requests.exceptions.SSLError: Max retries exceeded ([SSL: CERTIFICATE_VERIFY_FAILED])"),
            Outcome.NOT_CHECKED,
            (0, 3),
            "no network",
            id="somebody else answers",
        ),
        pytest.param(
            ran(SKIPPED, SKIPPED), Outcome.NOT_CHECKED, (0, 3), "knows none of 2", id="pip-audit's own 0 for unknown"
        ),
        pytest.param(
            ran(CLEAN, SKIPPED), Outcome.NOT_CHECKED, (0, 3), "1 clean, but unknown: vine", id="a gap is not clean"
        ),
        pytest.param(ran(code=0), Outcome.FAILED, (2, 2), "0 packages", id="nothing audited"),
        pytest.param(ran(CLEAN, code=1), Outcome.FAILED, (2, 2), "ended with 1", id="a code that nothing explains"),
        pytest.param(
            Ran(1, "", "ERROR: could not parse\nhash missing\n"),
            Outcome.FAILED,
            (2, 2),
            "hash missing",
            id="other errors",
        ),
        pytest.param(Ran(0, "[]", ""), Outcome.FAILED, (2, 2), "it said nothing", id="another shape"),
    ],
)
def test_outcomes_are_told_apart(given: Ran, outcome: Outcome, codes: tuple[int, int], says: str) -> None:
    found = judge(given)
    assert found.outcome is outcome
    assert (found.exit_code(strict=False), found.exit_code(strict=True)) == codes
    assert says in " ".join(found.sentences)


def test_every_outcome_has_an_exit_code() -> None:
    assert {outcome: Audit(outcome, ()).exit_code(strict=True) for outcome in Outcome}.keys() == set(Outcome)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("ERROR: Could not find a version that satisfies the requirement x==1 (from versions: none)", ToolsAwayError),
        ("WARNING: Retrying after connection broken by 'NewConnectionError(...)'", ToolsAwayError),
        (
            "WARNING: Retrying after connection broken by 'X'\nERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM ...",
            ToolsFailedError,
        ),
        ("ERROR: Could not find a version that satisfies x==9 (from versions: 1, 2)", ToolsFailedError),
        ("ERROR: No space left on device", ToolsFailedError),
    ],
)
def test_a_wrong_hash_is_never_taken_for_an_absent_network(said: str, kind: type[Exception]) -> None:
    assert type(judge_installation(Ran(1, "", said))) is kind
