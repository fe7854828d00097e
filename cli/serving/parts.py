"""``panel-sync api``, ``worker``, ``beat``, ``flower``: one part alone. The process becomes the part's program."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.environment import data_root
from cli.serving.stack import (
    POWER_PROCESSES,
    RECONCILE_PROCESSES,
    STATISTICS_PROCESSES,
    WEBHOOK_PROCESSES,
    Part,
    api_part,
    beat_part,
    flower_part,
    queues_of,
    worker_part,
)
from panel.monitoring.process_files import VARIABLE
from panel.settings import Settings, load_settings
from runtime.private_directory import close_to_others, own_directory, private_directory


class Queue(StrEnum):
    """Which tasks a worker takes. ``all``: of every queue that the settings use."""

    SYNC = "sync"
    RECONCILE = "reconcile"
    POWER = "power"
    STATISTICS = "statistics"
    WEBHOOKS = "webhooks"
    ALL = "all"


def _become(part: Part, settings: Settings, more: Mapping[str, str] | None = None) -> None:
    """Replace this process by the part's program, so that a container's signals reach the program itself."""
    environment = {**os.environ, **part.environment(settings), **(more or {})}
    os.execvpe(part.argv[0], part.argv, environment)  # noqa: S606 - our command line


def _counting_together(settings: Settings) -> dict[str, str]:
    """The variable by which the processes of one worker count together, if it shows its metrics. Their directory is
    empty at each start; no other part of this machine has its port."""
    if not settings.metrics_port or os.environ.get(VARIABLE):
        return {}
    name = f"panel-sync-metrics-{os.geteuid()}-{settings.metrics_port}"
    directory = private_directory(Path(tempfile.gettempdir()) / name, mode=0o700)
    for counted in directory.iterdir():
        counted.unlink()
    return {VARIABLE: str(directory)}


def api() -> None:
    """Run the HTTP edge alone (uvicorn on HOST and PORT).

    Example: panel-sync api

    Ends with 2, and why, if a setting is missing or wrong; else with the exit code of the program.
    """
    settings = load_settings()
    settings.require("database_url", "vps_sync_api_key")
    settings.require_jwt()
    _become(api_part(settings), settings)


def worker(
    queue: Annotated[Queue, typer.Option("--queue", "-q", help="Which tasks the worker takes.")] = Queue.ALL,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            "-c",
            min=1,
            help="Processes; by default WORKER_CONCURRENCY (reconcile: 3, power: 4, statistics: 3, webhooks: 1).",
        ),
    ] = None,
) -> None:
    """Run a Celery worker alone. In production use one for each queue, because reconcile runs take long.

    Examples: panel-sync worker --queue sync --concurrency 4; panel-sync worker --queue reconcile; panel-sync worker
    --queue power; panel-sync worker --queue statistics; panel-sync worker --queue webhooks

    Ends with 2, and why, if a setting is missing or wrong; else with the exit code of the program.
    """
    settings = load_settings()
    settings.require("database_url", "redis_url")
    queues = ",".join(queues_of(settings)) if queue is Queue.ALL else queue.value
    if "webhooks" in queues:
        settings.require("main_site_webhook_url", "main_site_webhook_secret")
    defaults = {
        Queue.RECONCILE: RECONCILE_PROCESSES,
        Queue.POWER: POWER_PROCESSES,
        Queue.STATISTICS: STATISTICS_PROCESSES,
        Queue.WEBHOOKS: WEBHOOK_PROCESSES,
    }
    default = defaults.get(queue, settings.worker_concurrency)
    _become(worker_part(queues, concurrency or default), settings, _counting_together(settings))


def beat() -> None:
    """Run the scheduler alone. You may start several: one of them works, the others stand by.

    Example: panel-sync beat

    Ends with 0 after SIGTERM or Ctrl-C; with 1 if another scheduler may have taken its place (start it again); with 2,
    and why, if a setting is missing or wrong.
    """
    settings = load_settings()
    settings.require("database_url", "redis_url")
    _become(beat_part(), settings)


def flower(
    address: Annotated[
        str, typer.Option("--address", envvar="FLOWER_ADDRESS", help="Where to listen; 0.0.0.0 inside a container.")
    ] = "127.0.0.1",
) -> None:
    """Run Flower alone, protected by FLOWER_USER and FLOWER_PASSWORD. Only /healthcheck answers without them.

    Examples: panel-sync flower; panel-sync flower --address 0.0.0.0

    Ends with 2, and why, if a setting is missing or wrong; else with the exit code of the program.
    """
    settings = load_settings()
    settings.require("redis_url", "flower_password")
    root = own_directory(data_root())
    close_to_others(root)
    _become(flower_part(settings, root / "flower-state", address), settings)
