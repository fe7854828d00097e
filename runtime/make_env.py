"""Print a .env with random secrets, from .env.example: ``python3 runtime/make_env.py > .env``.

Standard library only, so that a machine with nothing but Docker and Python can prepare itself.
"""

from __future__ import annotations

import re
import secrets
import sys
from pathlib import Path

SECRETS = (
    "VPS_SYNC_API_KEY",
    "JWT_SECRET",
    "OPS_API_KEY",
    "FLOWER_PASSWORD",
    "POSTGRES_PASSWORD",
    "PANEL_DB_PASSWORD",
    "REDIS_PASSWORD",
)


def filled(template: str) -> str:
    """The template with a random value for every empty secret; letters and digits, so they fit into URLs."""
    lines = [re.sub(r"^#\s*(?=(?:%s)=)" % "|".join(SECRETS), "", line) for line in template.splitlines()]
    present = {line.split("=", 1)[0] for line in lines}
    lines += [f"{name}=" for name in SECRETS if name not in present]
    return "\n".join(f"{line}{secrets.token_hex(24)}" if line in {f"{n}=" for n in SECRETS} else line for line in lines)


def main() -> int:
    """Print it."""
    example = Path(__file__).resolve().parent.parent / ".env.example"
    sys.stdout.write(filled(example.read_text(encoding="utf-8")) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
