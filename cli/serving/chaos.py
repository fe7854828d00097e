"""``panel-sync chaos``: run the whole panel on this machine, break it on purpose, and prove that nothing was lost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import httpx
import typer
from sqlalchemy.exc import DBAPIError

from cli.output.console import err, out
from cli.serving.local_servers import DATABASE, prepare_embedded
from cli.serving.stack import processes
from cli.serving.temporary_run import EndSignals, quick_to_stop, scratch_directory
from lab.chaos.faults import KINDS, LOAD_KINDS
from lab.chaos.proofs.answers import ANSWER_S
from lab.chaos.proofs.beats import BeatWatch
from lab.chaos.report import Outcome
from lab.chaos.rig import Rig
from lab.chaos.schedule import schedule_of
from lab.chaos.stage import perform
from lab.chaos.tcp_proxy import tcp_proxy
from lab.demo.outside import main_site_control, outside_processes, proxmox_control
from lab.demo.world import CLUSTERS, Keys, choose_places, environment_of, panel_settings
from lab.simulators.control import ControlError
from panel.logging import configure_logging
from panel.sessions import sync_engine
from panel.terminal import styled
from runtime.errors import RuntimeFaultError
from runtime.paths import DataDirectory
from runtime.processes.supervisor import RestartPolicy, Supervisor, stop_signals
from runtime.servers.embedded_postgres import EmbeddedPostgres
from runtime.servers.embedded_redis import EmbeddedRedis

BEATS = 2
RESTART = RestartPolicy(first_delay_s=0.5, max_delay_s=2.0)
EXTRA_QUEUES = ("sync,reconcile", "reconcile", "sync")
"""The queues of each worker beyond those of a panel. If there are more workers, the list starts anew."""

PROGRESS_S = 10.0
TORTURE_RATE, TORTURE_VPS, TORTURE_CALLERS = 80.0, 200, 8
TORTURE_TROUBLE_S, TROUBLE_S = 6.0, 1.3

QUICK: Mapping[str, Any] = {
    "log_format": "json",  # the proof reads in the beats' logs when each beat took the lock
    "sweep_interval_s": 3,
    "users_interval_s": 3,
    "link_grace_s": 1,
    "create_grace_s": 2,
    "paid_missing_grace_s": 3,
    "orphan_grace_s": 4,
    "absence_proof_t_s": 5,
    "budget_deletes_run": 1000,
    "budget_deletes_hour": 100_000,
    "budget_deletes_day": 100_000,
    "budget_creates_min": 100_000,
    "budget_flips_min": 100_000,
    "budget_owners_run": 1000,
    "budget_owners_day": 100_000,
    "budget_merges_run": 1000,
    "budget_merges_day": 100_000,
    "task_events": False,
}
"""Seconds where production has minutes, and budgets that hold nothing back. The limits per customer and node stay."""


def chaos(
    seed: Annotated[int, typer.Option(help="The same seed makes the same schedule.")] = 1,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long faults happen; recovery takes extra time.")] = 1.0,
    workers: Annotated[int, typer.Option(min=2, help="How many workers in all.")] = 3,
    worlds: Annotated[int, typer.Option(min=1, help="Groups of customers side by side.")] = 1,
    rate: Annotated[float, typer.Option(min=0, help="Calls a second beside those of the schedule.")] = 5.0,
    torture: Annotated[
        bool, typer.Option("--torture", help="80 calls a second, and faults of the panel's own parts only.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the schedule and end.")] = False,
) -> None:
    """Break the real panel on purpose, and prove that no call was lost or doubled and no VPS given away.

    It starts embedded PostgreSQL and Redis, API, workers, two beats, a simulated main site and two simulated Proxmox
    clusters, all in a temporary directory.

    Examples: panel-sync chaos --minutes 5 --seed 7; panel-sync chaos --torture --minutes 30

    Ends with 0 if every accepted call was applied once and in order, no record was wrong for a moment, no two runs
    wrote at once, and every difference was repaired or reported; else with 1, and prints what happened.
    """
    every_s = TORTURE_TROUBLE_S if torture else TROUBLE_S
    kinds = LOAD_KINDS if torture else KINDS
    schedule = schedule_of(seed, 60 * minutes, kinds, worlds=worlds, troubles_every_s=every_s)
    if show:
        for line in str(schedule).splitlines():
            out.print(line, soft_wrap=True)
        return
    end_signals = EndSignals()
    with stop_signals(end_signals.on_signal), scratch_directory("chaos") as root:
        try:
            with (root / "chaos.log").open("w", encoding="utf-8") as log, _Progress() as progress:
                configure_logging("console", log)
                progress.show("everything starts")
                with running_rig(root, workers=workers, end_signals=end_signals) as rig, end_signals.hurrying_after():
                    outcome = perform(
                        rig,
                        schedule,
                        rate=max(rate, TORTURE_RATE) if torture else rate,
                        loaded=TORTURE_VPS if torture else 20,
                        callers=TORTURE_CALLERS if torture else 2,
                        progress=progress.show,
                    )
        except (RuntimeFaultError, ControlError, httpx.HTTPError, DBAPIError) as error:
            err.print(f"The rig broke: {error or type(error).__name__}")
            raise typer.Exit(1) from error
        _report(outcome, root, strict=torture)


@contextlib.contextmanager
def running_rig(
    root: Path, *, workers: int = 3, end_signals: EndSignals | None = None, answer_within_s: float = ANSWER_S
) -> Iterator[Rig]:
    """Start all parts in ``root``; stop them in reverse order."""
    watched = end_signals or EndSignals()
    with DataDirectory(root) as data, contextlib.ExitStack() as stack:
        keys, places = Keys.make(), choose_places(root)
        # The proof needs the time at which each row was committed.
        postgres = EmbeddedPostgres(data.postgres, durable=False, settings={"track_commit_timestamp": "on"})
        redis = EmbeddedRedis(data.redis)
        for server in (postgres, redis):
            stack.callback(server.destroy)
            server.start()
        proxy = stack.enter_context(tcp_proxy(redis.port))
        through = redis.url.replace(f":{redis.port}/", f":{proxy.port}/")
        servers = prepare_embedded(postgres) | {"REDIS_URL": through}
        outside = stack.enter_context(watched.watch(Supervisor(outside_processes(places, keys, data))))
        settings = panel_settings(places, keys, servers, **QUICK, answer_within_s=answer_within_s)
        scratch = root / "tmp"
        scratch.mkdir()
        environment = environment_of(settings) | {"TMPDIR": str(scratch)}
        extra = [EXTRA_QUEUES[n % len(EXTRA_QUEUES)] for n in range(workers - 2)]
        panel = processes(settings, environment, data, flower=False, extra_workers=extra, beats=BEATS)
        parts = Supervisor(quick_to_stop(panel), restart=RESTART)
        beats = BeatWatch(redis.url)
        beats.start()
        stack.callback(beats.stop)
        stack.enter_context(watched.watch(parts))
        engine = sync_engine(postgres.admin_url(DATABASE), "chaos", statement_ms=60_000)
        stack.callback(engine.dispose)
        rig = Rig(
            settings,
            outside,
            parts,
            postgres,
            redis,
            proxy,
            stack.enter_context(main_site_control(places, keys)),
            {name: stack.enter_context(proxmox_control(places, keys, name)) for name in CLUSTERS},
            engine,
            beats,
            root,
        )
        # Chaos kills parts all the time, so their end need not be orderly either. A frozen server must be thawed
        # before it can stop.
        stack.callback(rig.kill_parts)
        stack.callback(rig.thaw)
        yield rig


class _Progress:
    """A live line on a terminal; without a terminal, a line every ten seconds."""

    def __init__(self) -> None:
        self._status = err.waiting() if err.is_terminal else None
        self._shown_at = -PROGRESS_S

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, text: str) -> None:
        """Show the progress."""
        if self._status is not None:
            self._status.update(styled("", text))
        elif time.monotonic() - self._shown_at >= PROGRESS_S:
            self._shown_at = time.monotonic()
            err.print(text, soft_wrap=True)


def _report(outcome: Outcome, root: Path, *, strict: bool) -> None:
    """Print the outcome. Exit code 1 if anything failed, with ``strict`` also if the 99th percentiles were too slow."""
    for line in outcome.summary():
        out.print(line, soft_wrap=True)
    slow = outcome.broken_promises if strict else []
    for line in slow:
        err.print(line, soft_wrap=True)
    if not outcome.failures and not slow:
        return
    for line in outcome.tale() if outcome.failures else ():
        err.print(line, soft_wrap=True)
    err.print(f"The logs stay in {root / 'logs'}.")
    raise typer.Exit(1)
