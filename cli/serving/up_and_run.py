"""``panel-sync up`` and ``panel-sync run``: the whole panel, supervised."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from cli.connect import opened_panel, require_redis
from cli.environment import RUNNING, SECRETS, data_root, with_overrides, write_overrides
from cli.errors import CommandError
from cli.output.console import err
from cli.output.progress import Working
from cli.serving.local_servers import missing_secrets, prepare_embedded
from cli.serving.migrating import migrate_given
from cli.serving.seed_example import run_seed_example
from cli.serving.stack import require_free_ports
from cli.serving.supervise import supervise
from panel.settings import load_settings
from runtime.paths import DataDirectory
from runtime.servers.embedded_postgres import EmbeddedPostgres
from runtime.servers.embedded_redis import EmbeddedRedis
from runtime.servers.embedded_server import EmbeddedServer


def up(
    migrate: Annotated[bool, typer.Option(help="Bring the database to this version's tables first.")] = True,
    flower: Annotated[bool, typer.Option(help="Start Flower too, which shows the tasks.")] = True,
) -> None:
    """Start the whole panel against your own PostgreSQL and Redis (DATABASE_URL, REDIS_URL).

    It starts API, workers, beat and Flower, restarts a part that dies, and stops all of them after Ctrl-C or SIGTERM.

    Examples: panel-sync up; panel-sync up --no-flower --no-migrate

    Ends with 0 after Ctrl-C or SIGTERM; with 2, and why, if it could not start.
    """
    settings = load_settings()
    for name in ("database_url", "redis_url"):
        if not getattr(settings, name):
            raise CommandError(
                f"{name.upper()} is not set: `up` uses your own servers; `panel-sync run` brings its own along"
            )
    settings.require("vps_sync_api_key", *(("flower_password",) if flower else ()))
    settings.require_jwt()
    require_free_ports(settings, flower=flower)
    if migrate:
        migrate_given(settings)
    with opened_panel(settings.session_url):
        pass
    require_redis(settings.redis_url)
    with DataDirectory(data_root()) as data:
        supervise(settings, {}, data, flower=flower)


def run(
    seed_example: Annotated[
        bool,
        typer.Option(
            "--seed-example",
            help="Start a panel for the integration guide's example: its key, user 5, ids from 1, temporary servers, "
            "loopback only. Prints the four calls, ready to paste.",
        ),
    ] = False,
) -> None:
    """Start the whole panel on this machine, with embedded servers and random keys where none are set.

    Without DATABASE_URL it starts a PostgreSQL, without REDIS_URL a Redis. Their data and the random keys are kept in
    the data directory (.data, or $PANEL_DATA_DIR).

    Examples: panel-sync run; panel-sync run --seed-example

    Ends with 0 after Ctrl-C or SIGTERM; with 2, and why, if it could not start.
    """
    if seed_example:
        run_seed_example()
        return
    settings = load_settings()
    require_free_ports(settings, flower=True)
    with DataDirectory(data_root()) as data, contextlib.ExitStack() as servers:
        keys = missing_secrets(settings, data)
        overrides = dict(keys)
        embedded: list[EmbeddedServer] = []
        if settings.database_url:
            migrate_given(settings)
        else:
            with Working("starting PostgreSQL"):
                postgres = servers.enter_context(EmbeddedPostgres(data.postgres))
                embedded.append(postgres)
                overrides |= prepare_embedded(postgres)
        if settings.redis_url:
            require_redis(settings.redis_url)
        else:
            with Working("starting Redis"):
                redis = servers.enter_context(EmbeddedRedis(data.redis))
            embedded.append(redis)
            overrides["REDIS_URL"] = redis.url
        settings = with_overrides(overrides)
        with opened_panel(settings.session_url):
            pass
        running = data.root / RUNNING
        write_overrides(running, overrides)
        servers.callback(running.unlink, missing_ok=True)

        def print_keys() -> None:
            if keys:
                err.print(f"  Keys    {', '.join(sorted(keys))}: in {data.root / SECRETS}", soft_wrap=True)

        supervise(settings, overrides, data, servers=embedded, on_ready=print_keys)
