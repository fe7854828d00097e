"""The audit tools, in an environment of their own, so that their dependencies are not the panel's.

Nothing of the panel is installed there, so that the search for tampering does not depend on what it searches.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".venv-audit"
LOCK = ROOT / "requirements" / "audit.lock"

NETWORK_AWAY = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|ConnectionError|ProxyError|Failed to establish a new connection"
    r"|Name or service not known|Temporary failure in name resolution|Network is unreachable|Connection refused"
    r"|connection broken by|SSLError|CERTIFICATE_VERIFY_FAILED|\(from versions: none\)",
    re.IGNORECASE,
)
"""How pip and requests say that no server answered, or a proxy that breaks TLS did. They say it in text only."""

HASHES_DIFFER = "DO NOT MATCH THE HASHES"


class ToolsFailedError(Exception):
    """The tools could not be installed, though the network is there. One sentence, with pip's own words."""


class ToolsAwayError(Exception):
    """The tools are not installed, and there is no network to fetch them."""


@dataclass(frozen=True, slots=True)
class Ran:
    """The result of a program."""

    code: int
    out: str
    err: str


def run(program: str, *arguments: str) -> Ran:
    """Run a program of the tools' environment to its end, in the checkout's directory."""
    command = [str(TOOLS / "bin" / program), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - fixed programs
    return Ran(done.returncode, done.stdout, done.stderr)


def installed() -> bool:
    """Whether the environment exists and was made from the present lock."""
    stamp = TOOLS / ".installed"
    return stamp.is_file() and stamp.read_text(encoding="ascii") == _digest()


def install() -> None:
    """Make the environment if it does not exist. Raises ToolsAwayError, ToolsFailedError."""
    if installed():
        return
    created = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-m", "venv", "--clear", str(TOOLS)], capture_output=True, text=True, check=False
    )
    if created.returncode:
        raise ToolsFailedError(f"no virtual environment could be made: {last_line(created.stderr or created.stdout)}")
    ran = run(
        "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "-r", str(LOCK)
    )
    if ran.code:
        raise judge_installation(ran)
    (TOOLS / ".installed").write_text(_digest(), encoding="ascii")


def judge_installation(ran: Ran) -> Exception:
    """Why pip failed. A package with a wrong hash is never taken for a missing network."""
    output = ran.err + ran.out
    if HASHES_DIFFER in output:
        return ToolsFailedError("a package of requirements/audit.lock is not the pinned one: its hash differs")
    if NETWORK_AWAY.search(output):
        return ToolsAwayError("the audit tools are not installed and could not be fetched")
    return ToolsFailedError(f"the audit tools could not be installed: {last_line(output)}")


def last_line(text: str) -> str:
    """The last line with any text."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _digest() -> str:
    return hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()
