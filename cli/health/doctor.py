"""``panel-sync doctor`` checks each dependency: what is wrong with it, and how to repair it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial

import typer

from cli.environment import command_settings
from cli.errors import CommandError
from cli.health.checks import Check, Verdict, check_postgres, check_workers
from cli.health.redis_checks import check_redis
from cli.health.source_checks import check_believed, check_cluster, check_main_site
from cli.health.webhook_checks import check_webhook
from cli.output.console import as_json, out
from cli.output.listing import Json
from cli.output.progress import Working
from panel.settings import Settings, SettingsError
from panel.terminal import styled, table
from reconcile.run_phases import Progress, no_progress

MARKS = {
    Verdict.OK: styled("green", "ok"),
    Verdict.NOTE: styled("dim", "note"),
    Verdict.WARNING: styled("yellow", "warning"),
    Verdict.PROBLEM: styled("bold red", "problem"),
}


def doctor(json: Json = False) -> None:
    """Check every dependency, and say what is wrong and how to repair it. Changes nothing.

    Examples: panel-sync doctor; panel-sync doctor --json

    Ends with 0 if there are no problems (warnings do not count), with 1 if there is one.
    """
    with Working("looking at the settings") as progress:
        checks = list(examine(command_settings(), progress))
    if json:
        as_json([asdict(check) for check in checks])
    else:
        rows = table("", "what", "seen", "how to repair it")
        for check in checks:
            rows.add_row(MARKS[check.verdict], check.subject, check.seen, check.mend)
        out.print(rows)
    if any(check.verdict is Verdict.PROBLEM for check in checks):
        raise typer.Exit(1)


def examine(settings: Settings, progress: Progress = no_progress) -> Iterator[Check]:
    """Every check; a part comes after the parts that it needs. ``progress``: receives what is being checked."""
    yield from _configured(settings)
    if settings.database_url:
        progress("looking at PostgreSQL", 0, None)
        yield from check_postgres(settings)
    if settings.redis_url:
        progress("looking at Redis", 0, None)
        broker = check_redis(settings)
        yield from broker
        if all(check.verdict is not Verdict.PROBLEM for check in broker):
            progress("looking for the workers", 0, None)
            yield from check_workers(settings)
    yield from _sources(settings, progress)


def _configured(settings: Settings) -> Iterator[Check]:
    for name in ("database_url", "redis_url", "vps_sync_api_key"):
        try:
            settings.require(name)
        except SettingsError as error:
            yield Check("settings", Verdict.PROBLEM, str(error))
    if not settings.operators():
        yield Check("settings", Verdict.NOTE, "no operator has a key: /api/ops is closed", "set OPS_API_KEYS")
    try:
        settings.require_jwt()
    except SettingsError as error:
        yield Check("settings", Verdict.PROBLEM, str(error))
    if not settings.main_site_url:
        yield Check("main site", Verdict.NOTE, "not configured: nothing is compared with orders", "set MAIN_SITE_URL")
    if settings.main_site_url and settings.main_site_feed == "panel-api" and not settings.panel_api_cluster:
        seen = "PANEL_API_CLUSTER is not set: without it a proxmoxId names no guest, so no order finds its machine"
        yield Check(
            "main site", Verdict.PROBLEM, seen, "set it to the name in PROXMOX_CLUSTERS that proxmoxId belongs to"
        )
    if not settings.proxmox_clusters:
        yield Check("Proxmox", Verdict.NOTE, "not configured: guests can't be observed", "set PROXMOX_CLUSTERS")


def _sources(settings: Settings, progress: Progress) -> Iterator[Check]:
    if settings.database_url and (settings.main_site_url or settings.proxmox_clusters):
        yield from _guarded("sources", partial(check_believed, settings))
    if settings.main_site_url:
        progress("looking at the main site", 0, None)
        yield from _guarded("main site", partial(check_main_site, settings))
    if settings.main_site_webhook_url:
        yield from _guarded("webhook", partial(check_webhook, settings))
    for cluster in settings.proxmox_clusters:
        progress(f"looking at Proxmox {cluster.name}", 0, None)
        yield from _guarded(f"Proxmox {cluster.name}", partial(check_cluster, cluster, power=settings.power_actions))


def _guarded(subject: str, look: Callable[[], list[Check]]) -> list[Check]:
    """A wrongly configured source becomes a result. The other checks still run."""
    try:
        return look()
    except (ValueError, CommandError) as error:
        return [Check(subject, Verdict.PROBLEM, str(error))]
