"""``panel-sync demo``: start the whole panel, a simulated main site and Proxmox, and play a story on them."""

from __future__ import annotations

import contextlib
import select
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
    CUSTOMERS,
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
TIME_TO_OPEN_S = 20.0


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the story: 0 if it came true, 1 if not.")] = False,
) -> None:
    """Start everything on this machine and play a story: faults on purpose, and how the panel repairs each one.

    It starts embedded PostgreSQL and Redis, API, workers, beat, Flower, a simulated main site and two simulated
    Proxmox clusters, all in a temporary directory and with new keys. Your settings and .env are not used.

    It prints where the panel's pages are, with links that sign you in as a customer. They show each fault and its
    repair as it happens. On a terminal the story begins when you press Enter, or after 20 s.

    Examples: panel-sync demo; panel-sync demo --once

    Ends with 0 if all of the story came true, with 1 if not or if the demo broke, with 130 after Ctrl-C in the story.
    """
    terminal = sys.stdout.isatty()
    screen = Screen(SafeConsole(width=None if terminal else PLAIN_WIDTH))
    end_signals = EndSignals()
    with stop_signals(end_signals.on_signal), scratch_directory("demo") as root:
        try:
            with _staged(root, screen, end_signals) as stage, end_signals.hurrying_after():
                _play(stage, once=once)
        except (RuntimeFaultError, ControlError, httpx.HTTPError) as error:
            screen.failure("every part of the demo answers", f"{error or type(error).__name__}", [])
            raise typer.Exit(1) from error


def _play(stage: Stage, *, once: bool) -> None:
    _show_pages(stage)
    if not once and sys.stdin.isatty() and sys.stdout.isatty():
        _wait_for_enter(stage)
    began = time.monotonic()
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
            waiting.show("API, workers, beat and Flower")
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
        stage.add_customers()
        screen.right(f"PostgreSQL {postgres.version}, Redis {redis.version}, API, workers, beat, Flower:")
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


def _show_pages(stage: Stage) -> None:
    """Print the pages' addresses. The keys are valid for this demo only, so whoever started it may see them."""
    settings, screen = stage.settings, stage.screen
    screen.heading("Watch it in a browser")
    screen.say("The pages show what happens as it happens. They open as a customer sees them, or as operators do:")
    for customer in CUSTOMERS:
        screen.paste(f"    {customer.username:<10} {settings.sign_in_url}/sign-in/{customer.username}")
    screen.paste(f"    operators  {stage.panel.url}/ops   key {settings.ops_api_key.get_secret_value()}")
    flower_password = settings.flower_password.get_secret_value()
    screen.paste(f"    Flower     {settings.flower_url}   user {settings.flower_user}, password {flower_password}")
    screen.paste(f"    API docs   {stage.panel.url}/docs")


def _wait_for_enter(stage: Stage) -> None:
    ends = time.monotonic() + TIME_TO_OPEN_S
    with stage.screen.waiting("Press Enter to begin") as waiting:
        while (left_s := ends - time.monotonic()) > 0:
            stage.check()
            waiting.show(f"or wait {left_s:.0f} s")
            if select.select([sys.stdin], [], [], min(left_s, 0.5))[0]:
                sys.stdin.readline()
                return


def _show_places(stage: Stage) -> None:
    settings, screen = stage.settings, stage.screen
    url = stage.panel.url
    screen.heading("It goes on running until Ctrl-C")
    screen.say("The pages whose addresses stand above stay open. The links work as often as you like.")
    screen.say(f"Try it as user {ANNA.panel_id} ({ANNA.username}):")
    screen.paste(f"\ncurl {url}/api/vps -H 'Authorization: Bearer {_token(settings, ANNA.panel_id)}'\n")
