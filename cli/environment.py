"""The settings a command works with: the environment and .env, else those of a local ``panel-sync run``.

A run that embeds its servers writes where they are into its data directory (readable by its user only), so that
``panel-sync operations`` in a second terminal finds them without any setting.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from cli.errors import CommandError
from panel.settings import Settings, load_settings
from runtime.paths import default_data_dir
from runtime.servers.embedded_server import write_private

RUNNING = "running.json"
SECRETS = "secrets.json"

Overrides = dict[str, str]
"""Environment variables that a run adds: names as in the environment."""

JSON_SETTINGS = {"OPS_API_KEYS", "PROXMOX_CLUSTERS", "REPAIR_POLICY"}

# Hidden: the files hold secrets, and pydantic's errors quote what they were given.
OVERRIDES: TypeAdapter[Overrides] = TypeAdapter(Overrides, config=ConfigDict(hide_input_in_errors=True))


def data_root() -> Path:
    """The project's data directory."""
    return default_data_dir(os.environ, Path.cwd())


def with_overrides(overrides: Mapping[str, str]) -> Settings:
    """The settings as a child that gets these variables will see them."""
    # Given as values, not from the environment, a list must be a list already.
    return load_settings(
        **{name.lower(): json.loads(value) if name in JSON_SETTINGS else value for name, value in overrides.items()}
    )


def command_settings() -> Settings:
    """Settings of a command; where no DATABASE_URL is set, those of the run under way, if there is one."""
    settings = load_settings()
    if settings.database_url:
        return settings
    found = read_overrides(data_root() / RUNNING)
    return with_overrides(found) if found else settings


def read_overrides(path: Path) -> Overrides:
    """The variables kept in a file; none when there is no file. Raises CommandError if it is not whole."""
    try:
        return OVERRIDES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError:
        raise CommandError(f"{path} is damaged; remove it to have it made again") from None


def write_overrides(path: Path, overrides: Overrides) -> None:
    """Keep variables in a file that only this user can read."""
    write_private(path, OVERRIDES.dump_json(overrides, indent=1).decode() + "\n")
