"""A user of Redis with the rights that the documentation lists, or fewer."""

from __future__ import annotations

import re
from pathlib import Path

import redis

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "runtime.md"
PASSWORD = "a-password-of-the-panels-own"


def documented() -> list[str]:
    """The rules of the documented ACL."""
    found = re.search(r"```redis-acl\nACL SETUSER panel (.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1].replace("PASSWORD", PASSWORD).split()


def with_user(url: str, rules: list[str]) -> str:
    """Make the user, or give it these rules, and return the URL with it."""
    with redis.Redis.from_url(url, socket_timeout=60) as client:
        client.execute_command("ACL", "SETUSER", "panel", *rules)
    return re.sub(r"//.*@", f"//panel:{PASSWORD}@", url)
