"""``panel-sync demo``: start the whole panel, a simulated main site and Proxmox, and play a story on them."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import httpx
import typer

from cli.operating.tokens import client_token
from cli.serving.local_servers import prepare_embedded
from cli.serving.stack import processes
from cli.serving.temporary_run import EndSignals, quick_to_stop, scratch_directory
from lab.demo.errors import DemoError
from lab.demo.journal import Journal
from lab.demo.outside import main_site_control, outside_processes, proxmox_control
from lab.demo.panel_client import PanelClient
from lab.demo.screen import PLAIN_WIDTH, Screen
from lab.demo.stage import Stage
from lab.demo.story import play_story
from lab.demo.world import (
    ANNA,
    CLUSTERS,
    FAST_INTERVAL_S,
    FULL_INTERVAL_S,
    PANEL_PORT,
    PROOF_N,
    PROOF_T_S,
    Keys,
    choose_places,
    environment_of,
    panel_settings,
)
from lab.simulators.control import ControlError
from panel.logging import configure_logging
from panel.sessions import sync_engine
from panel.settings import Settings
from panel.terminal import SafeConsole
from runtime.errors import RuntimeFaultError
from runtime.paths import DataDirectory
from runtime.processes.supervisor import Supervisor, stop_signals
from runtime.servers.embedded_postgres import EmbeddedPostgres
from runtime.servers.embedded_redis import EmbeddedRedis

TOKEN_TTL = timedelta(hours=24)


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the story: 0 if it came true, 1 if not.")] = False,
) -> None:
    """Start everything on this machine and play a story: faults on purpose, and how the panel repairs each one.

    It starts embedded PostgreSQL and Redis, API, workers, beat, Flower, a simulated main site and two simulated
    Proxmox clusters, all in a temporary directory and with new keys. Your settings and .env are not used.

    Examples: panel-sync demo; panel-sync demo --once

    Ends with 0 if all of the story came true, with 1 if not or if the demo broke, with 130 after Ctrl-C in the story.
    """
    terminal = sys.stdout.isatty()
    screen = Screen(SafeConsole(width=None if terminal else PLAIN_WIDTH))
    began, end_signals = time.monotonic(), EndSignals()
    with stop_signals(end_signals.on_signal), scratch_directory("demo") as root:
        try:
            with _staged(root, screen, end_signals) as stage, end_signals.hurrying_after():
                _play(stage, began, once=once)
        except (RuntimeFaultError, ControlError, httpx.HTTPError) as error:
            screen.failure("every part of the demo answers", f"{error or type(error).__name__}", [])
            raise typer.Exit(1) from error


def _play(stage: Stage, began: float, *, once: bool) -> None:
    try:
        play_story(stage)
    except DemoError as error:
        stage.screen.table(stage.sights)
        stage.screen.failure(error.expected, error.seen, stage.tails(error.logs))
        raise typer.Exit(1) from error
    stage.screen.table(stage.sights)
    stage.screen.say("")
    stage.screen.say(f"The whole story came true, in {time.monotonic() - began:.0f} s.")
    if once:
        return
    _show_places(stage)
    with contextlib.suppress(KeyboardInterrupt):
        stage.parts.wait()


@contextlib.contextmanager
def _staged(root: Path, screen: Screen, end_signals: EndSignals) -> Iterator[Stage]:
    """Start all parts; stop them in reverse order."""
    screen.heading("The panel starts")
    with DataDirectory(root) as data, contextlib.ExitStack() as stack:
        log = stack.enter_context(data.log_path("demo").open("w", encoding="utf-8"))
        configure_logging("console", log)
        keys, places = Keys.make(), choose_places(root)
        with screen.waiting("everything starts") as waiting:
            waiting.show("PostgreSQL and Redis")
            postgres, redis = EmbeddedPostgres(data.postgres, durable=False), EmbeddedRedis(data.redis)
            for server in (postgres, redis):
                stack.callback(server.destroy)
                server.start()
            waiting.show("the tables")
            servers = prepare_embedded(postgres) | {"REDIS_URL": redis.url}
            waiting.show("the main site and Proxmox")
            outside = stack.enter_context(end_signals.watch(Supervisor(outside_processes(places, keys, data))))
            # On a busy machine answers are slow, and the demo must not show that as an outage.
            settings = panel_settings(places, keys, servers, answer_within_s=20.0)
            waiting.show("API, two workers, beat and Flower")
            scratch = root / "tmp"
            scratch.mkdir()
            environment = environment_of(settings) | {"TMPDIR": str(scratch)}
            parts = Supervisor(quick_to_stop(processes(settings, environment, data)))
            stack.enter_context(end_signals.watch(parts))
        engine = sync_engine(settings.database_url, "panel-sync demo")
        stack.callback(engine.dispose)
        stage = Stage(
            settings,
            outside,
            parts,
            redis,
            stack.enter_context(main_site_control(places, keys)),
            {name: stack.enter_context(proxmox_control(places, keys, name)) for name in CLUSTERS},
            stack.enter_context(PanelClient(places.panel_url, keys.sync, lambda user: _token(settings, user))),
            Journal(engine),
            screen,
        )
        screen.right(f"PostgreSQL {postgres.version}, Redis {redis.version}, API, two workers, beat, Flower:")
        if places.panel != PANEL_PORT:
            screen.say(f"Port {PANEL_PORT} is taken here, so the API has another one.")
        screen.say(f"API at {places.panel_url}, Flower at {places.flower_url}; logs in {data.logs}")
        screen.right(
            f"a main site with its own user ids, Proxmox clusters {' and '.join(CLUSTERS)} (TLS, own authority)"
        )
        screen.say(
            f"Seconds instead of minutes: power every {FAST_INTERVAL_S:g} s, everything every {FULL_INTERVAL_S:g} s;"
            f" proof of absence N={PROOF_N}, T={PROOF_T_S:g} s."
        )
        yield stage


def _token(settings: Settings, user_id: int) -> str:
    return client_token(settings, user_id, datetime.now(UTC), TOKEN_TTL)


def _show_places(stage: Stage) -> None:
    settings, screen = stage.settings, stage.screen
    url, flower = stage.panel.url, f"http://127.0.0.1:{settings.flower_port}"
    screen.heading("It goes on running until Ctrl-C")
    screen.say(f"API docs  {url}/docs")
    # The password is valid for this demo only, so it may be shown to the user who started it.
    screen.say(
        f"Flower    {flower}   user {settings.flower_user}, password {settings.flower_password.get_secret_value()}"
    )
    screen.say(f"Try it as user {ANNA.panel_id} ({ANNA.username}):")
    screen.paste(f"\ncurl {url}/api/vps -H 'Authorization: Bearer {_token(settings, ANNA.panel_id)}'\n")
