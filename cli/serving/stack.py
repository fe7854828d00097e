"""The panel's processes: API, workers (one for each queue in use), beat and Flower, supervised together.

Secrets go only into the environment, because every user of the machine can read a command line.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.errors import CommandError
from cli.serving.part_secrets import Needs, withheld
from panel.heartbeat import VARIABLE
from panel.monitoring.process_files import VARIABLE as METRICS_VARIABLE
from panel.settings import Settings
from runtime.paths import DataDirectory
from runtime.processes.free_ports import LOOPBACK, is_free, reached_by
from runtime.processes.readiness import http_ok
from runtime.processes.supervisor import ManagedProcess

WORKER_GRACE_S = 12.0
"""Longer than Celery's soft shutdown (8 s). In these 8 s running tasks may end, and the others go back to the queue."""

RECONCILE_PROCESSES = 3
"""One for full runs, one for fast runs, one for imports and maintenance, so that none waits for another."""


POWER_PROCESSES = 4
"""Each step of a power action takes a moment. A node that hangs keeps a process busy for up to half a minute with each
step, so there must be others for the other nodes."""

WEBHOOK_PROCESSES = 1
"""Events go to one receiver, one after the other, so that a backlog does not overrun it."""


STATISTICS_PROCESSES = 3
"""A node that hangs keeps one of them busy for some seconds; the others serve the other nodes."""


def queues_of(settings: Settings) -> tuple[str, ...]:
    """The queues that these settings use. Statistics come from Proxmox alone."""
    used = {
        "sync": True,
        "reconcile": True,
        "power": settings.power_actions,
        "statistics": bool(settings.proxmox_clusters),
        "webhooks": bool(settings.main_site_webhook_url),
    }
    return tuple(queue for queue in used if used[queue])


@dataclass(frozen=True, slots=True)
class Part:
    """One program: its command line, the secrets it needs, further variables, and whether it writes a heartbeat
    (:mod:`panel.heartbeat`)."""

    argv: tuple[str, ...]
    needs: Needs
    more: Mapping[str, str]
    beats: bool = True

    def environment(self, settings: Settings) -> dict[str, str]:
        """Variables added to the caller's environment. They also replace what the program must not know."""
        return {**withheld(self.needs, settings), **self.more}


def _python(*arguments: str) -> tuple[str, ...]:
    # -P: Python must not import a directory worker/ or api/ of the folder in which the operator types the command.
    return (sys.executable, "-P", "-m", *arguments)


def api_part(settings: Settings) -> Part:
    """The HTTP edge. It is always one process, because calls share commits in it."""
    argv = _python(
        "uvicorn", "api.main:app_from_environment", "--factory", f"--host={settings.host}", f"--port={settings.port}",
        "--loop=uvloop", "--http=api.http.protocol:BoundedHttp", "--ws=none",
        "--no-access-log", "--no-server-header", "--log-level=warning", "--timeout-graceful-shutdown=8",
    )  # fmt: skip
    return Part(argv, Needs.API, {"FORWARDED_ALLOW_IPS": settings.forwarded_allow_ips or "127.0.0.1,::1"})  # of uvicorn


def worker_part(queue: str, concurrency: int, name: str | None = None) -> Part:
    """A prefork worker of one queue, or of several (``sync,reconcile``). ``name``: for a second worker of a queue."""
    name = name or queue.replace(",", "-")
    argv = _python(
        "celery", "--app=worker.app", "worker", f"--queues={queue}", f"--concurrency={concurrency}",
        f"--hostname={name}@%h", "--without-gossip", "--without-mingle", "--loglevel=WARNING",
    )  # fmt: skip
    return Part(argv, _needs_of(frozenset(queue.split(","))), {"REMAP_SIGTERM": "SIGQUIT"})


def _needs_of(queues: frozenset[str]) -> Needs:
    if "webhooks" in queues:
        return Needs.WEBHOOKS if queues <= {"webhooks", "sync"} else Needs.EVERY_QUEUE
    if "reconcile" in queues:
        return Needs.RECONCILE
    return Needs.PROXMOX if queues & {"power", "statistics"} else Needs.SERVERS


def beat_part() -> Part:
    """The scheduler. It works only while it holds the lock of beats."""
    return Part(_python("celery", "--app=worker.app", "--quiet", "beat", "--loglevel=WARNING"), Needs.SERVERS, {})


def flower_part(settings: Settings, state: Path, address: str = LOOPBACK) -> Part:
    """Flower, protected by a password. Only /healthcheck answers without one (:mod:`worker.flower_app`)."""
    user, password = settings.flower_user, settings.flower_password.get_secret_value()
    if not password:
        raise CommandError("FLOWER_PASSWORD is not set; set it in the environment or in .env")
    # Flower splits the variable at commas, and compares ASCII text only.
    if not user or set(user) & set(":,") or "," in password or not (user + password).isascii():
        raise CommandError("FLOWER_USER and FLOWER_PASSWORD must be ASCII without commas (the user without colons)")
    argv = _python(
        "celery", "--app=worker.flower_app", "flower", f"--address={address}", f"--port={settings.flower_port}",
        "--persistent=True", f"--db={state}", "--state_save_interval=60000", "--logging=warning",
    )  # fmt: skip
    return Part(argv, Needs.FLOWER, {"FLOWER_BASIC_AUTH": f"{user}:{password}"}, beats=False)


def require_free_ports(settings: Settings, *, flower: bool) -> None:
    """Raise CommandError if another program listens on one of the ports."""
    ports = {"PORT": (settings.port, reached_by(settings.host))}
    if flower:
        ports["FLOWER_PORT"] = (settings.flower_port, LOOPBACK)
    for variable, (port, host) in ports.items():
        if not is_free(port, host):
            raise CommandError(f"Port {port} is taken by another program; stop it or set {variable} to another port")
    if flower and settings.port == settings.flower_port:
        raise CommandError("PORT and FLOWER_PORT are the same; set one of them to another port")


def processes(
    settings: Settings,
    overrides: Mapping[str, str],
    data: DataDirectory,
    *,
    flower: bool = True,
    extra_workers: Sequence[str] = (),
    beats: int = 1,
) -> list[ManagedProcess]:
    """All parts, in the order in which they start. They stop in reverse order, so that the API accepts no call when the
    workers are gone.

    ``extra_workers``: the queues of each worker beyond those of a panel. ``beats``: how many; one of them works. The
    supervisor waits only until the API is ready; workers and beat may start a moment later.
    """
    host = reached_by(settings.host)

    def managed(
        name: str, part: Part, *, ready: Callable[[], bool] | None = None, grace_s: float = 10.0
    ) -> ManagedProcess:
        beats = data.beats_path(name) if part.beats else None
        # All parts but Flower, which has metrics of its own, count together; the API shows the numbers of all.
        counting = {METRICS_VARIABLE: str(data.metrics), "METRICS_PORT": "0"} if part.beats else {}
        return ManagedProcess(
            name,
            part.argv,
            {**os.environ, **overrides, **part.environment(settings), **counting, VARIABLE: str(beats or "")},
            data.log_path(name),
            ready=ready,
            stop_grace_s=grace_s,
            beats=beats,
            # If the supervisor is killed, the kernel sends this signal, so the parts still end their pool processes.
            death_signal=signal.SIGTERM,
        )

    sync = worker_part("sync", settings.worker_concurrency)
    reconcile = worker_part("reconcile", RECONCILE_PROCESSES)
    parts = [
        managed("worker-sync", sync, grace_s=WORKER_GRACE_S),
        managed("worker-reconcile", reconcile, grace_s=WORKER_GRACE_S),
    ]
    if settings.main_site_webhook_url:
        settings.require("main_site_webhook_secret")
    more = {"power": POWER_PROCESSES, "statistics": STATISTICS_PROCESSES, "webhooks": WEBHOOK_PROCESSES}
    parts.extend(
        managed(f"worker-{queue}", worker_part(queue, more[queue]), grace_s=WORKER_GRACE_S)
        for queue in queues_of(settings)
        if queue in more
    )
    for number, queue in enumerate(extra_workers, 3):
        name = f"worker-{number}"
        parts.append(managed(name, worker_part(queue, settings.worker_concurrency, name), grace_s=WORKER_GRACE_S))
    for number in range(1, beats + 1):
        name = "beat" if number == 1 else f"beat-{number}"
        parts.append(managed(name, beat_part()))
    if flower:
        parts.append(managed("flower", flower_part(settings, data.root / "flower-state")))
    grace_s = settings.wait_cap_s + 5.0  # calls with Prefer: wait are answered before the API ends
    parts.append(managed("api", api_part(settings), ready=http_ok(settings.port, "/readyz", host), grace_s=grace_s))
    return parts
