"""Print a .env with random secrets, made from .env.example: ``python3 runtime/make_env.py [--demo] > .env``.

``--demo`` points the panel at the simulators of docker-compose.yml's demo profile.

It uses the standard library only, so that a machine with nothing but Docker and Python can run it.
"""

from __future__ import annotations

import json
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
    """The template with a random value for every empty secret. The values are letters and digits, so they fit into
    URLs."""
    lines = [re.sub(r"^#\s*(?=(?:{})=)".format("|".join(SECRETS)), "", line) for line in template.splitlines()]
    present = {line.split("=", 1)[0] for line in lines}
    lines += [f"{name}=" for name in SECRETS if name not in present]
    return "\n".join(f"{line}{secrets.token_hex(24)}" if line in {f"{n}=" for n in SECRETS} else line for line in lines)


def simulated() -> str:
    """Settings for the demo profile: both simulators, and intervals of seconds instead of minutes."""
    token_id, token_secret = "panel@pve!sync", secrets.token_hex(24)
    place = {"name": "main", "url": "https://sim-proxmox:8006", "ca_file": "/var/lib/sim/main/ca.pem"}
    cluster = {"name": place["name"], "urls": [place["url"]], "ca_file": place["ca_file"]}
    cluster |= {"token_id": token_id, "token_secret": token_secret}
    site_key = secrets.token_hex(24)
    values = {
        "DEMO": "true",
        "MAIN_SITE_URL": "http://sim-main-site:5060",
        "MAIN_SITE_API_KEY": site_key,
        "USER_ID_SPACE": "mapped",
        "PROXMOX_CLUSTERS": json.dumps([cluster]),
        "FAST_INTERVAL_S": "2",
        "FULL_INTERVAL_S": "5",
        "SWEEP_INTERVAL_S": "5",
        "USERS_INTERVAL_S": "10",
        "CREATE_GRACE_S": "5",
        "LINK_GRACE_S": "5",
        "POWER_GRACE_S": "2",
        "ABSENCE_PROOF_T_S": "15",
        "SIM_MAIN_SITE_API_KEY": site_key,
        "SIM_CONTROL_KEY": secrets.token_hex(24),
        "SIM_PVE_TOKEN_ID": token_id,
        "SIM_PVE_TOKEN_SECRET": token_secret,
        "SIM_PROXMOX": json.dumps([place]),
        "PANEL_URL": "http://api:5050",
    }
    return "\n".join(f"{name}={value}" for name, value in values.items())


def main(arguments: list[str]) -> int:
    """Print the .env file."""
    example = Path(__file__).resolve().parent.parent / ".env.example"
    text = filled(example.read_text(encoding="utf-8"))
    if arguments == ["--demo"]:
        demo_lines = simulated()
        names = {line.split("=", 1)[0] for line in demo_lines.splitlines()}
        kept = [line for line in text.splitlines() if line.split("=", 1)[0] not in names]
        text = "\n".join(kept) + "\n" + demo_lines
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
