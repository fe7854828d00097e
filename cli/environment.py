"""The settings of a command: the environment and .env, or else those of a local ``panel-sync run``.

A run that embeds its servers writes their addresses into its data directory, readable by its user only. So
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
"""Environment variables that a run adds, by their names in the environment."""

JSON_SETTINGS = {"OPS_API_KEYS", "PROXMOX_CLUSTERS", "REPAIR_POLICY"}

# Input is hidden because the files hold secrets and pydantic's errors quote their input.
OVERRIDES: TypeAdapter[Overrides] = TypeAdapter(Overrides, config=ConfigDict(hide_input_in_errors=True))


def data_root() -> Path:
    """The project's data directory."""
    return default_data_dir(os.environ, Path.cwd())


def with_overrides(overrides: Mapping[str, str]) -> Settings:
    """The settings as a child process with these variables will see them."""
    # Passed as a value, not through the environment, a list must already be a list.
    return load_settings(
        **{name.lower(): json.loads(value) if name in JSON_SETTINGS else value for name, value in overrides.items()}
    )


def command_settings() -> Settings:
    """Settings of a command. Without DATABASE_URL, those of the current local run, if there is one."""
    settings = load_settings()
    if settings.database_url:
        return settings
    found = read_overrides(data_root() / RUNNING)
    return with_overrides(found) if found else settings


def read_overrides(path: Path) -> Overrides:
    """The variables in a file; none if there is no file. Raises CommandError if the file is damaged."""
    try:
        return OVERRIDES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError:
        raise CommandError(f"{path} is damaged; remove it to have it made again") from None


def write_overrides(path: Path, overrides: Overrides) -> None:
    """Store variables in a file that only this user can read."""
    write_private(path, OVERRIDES.dump_json(overrides, indent=1).decode() + "\n")
