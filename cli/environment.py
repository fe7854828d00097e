"""The settings of a command: from the environment and .env, or else from a local ``panel-sync run``.

``panel-sync run`` writes the addresses of its embedded servers into its data directory, readable by its user only. So
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
    # pydantic parses JSON in environment variables only. A list that is passed as a value must already be a list.
    return load_settings(
        **{name.lower(): json.loads(value) if name in JSON_SETTINGS else value for name, value in overrides.items()}
    )


def command_settings(*needed: str) -> Settings:
    """The settings of a command. Without DATABASE_URL, those of the local ``panel-sync run``, if one is running. Raises
    SettingsError if one of ``needed`` is not set."""
    settings = load_settings()
    if not settings.database_url and (running := read_overrides(data_root() / RUNNING)):
        settings = with_overrides(running)
    settings.require(*needed)
    return settings


def read_overrides(path: Path) -> Overrides:
    """The variables in a file; none if there is no file. Raises CommandError if the file is damaged."""
    try:
        return OVERRIDES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError:
        raise CommandError(f"{path} is damaged; remove it, and the next `panel-sync run` makes it again") from None


def write_overrides(path: Path, overrides: Overrides) -> None:
    """Store variables in a file that only this user can read."""
    write_private(path, OVERRIDES.dump_json(overrides, indent=1).decode() + "\n")
