"""Run the panel's processes in the foreground until Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from cli.environment import Overrides
from cli.output.console import err
from cli.serving.stack import processes
from panel.logging import configure_logging
from panel.redaction import secrets_of
from panel.settings import Settings
from panel.terminal import styled
from runtime.paths import DataDirectory
from runtime.processes.free_ports import LOOPBACK, reached_by, url_host
from runtime.processes.supervisor import RestartPolicy, Supervisor
from runtime.servers.embedded_server import EmbeddedServer


def supervise(
    settings: Settings,
    overrides: Overrides,
    data: DataDirectory,
    *,
    flower: bool = True,
    servers: Sequence[EmbeddedServer] = (),
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Start all parts, print their addresses, restart parts and ``servers`` that die, and stop all parts at the end.

    Raises RuntimeFaultError, with the log's last lines, if a part does not come up.
    """
    configure_logging("console", secrets=secrets_of(settings))
    whole = Supervisor(processes(settings, overrides, data, flower=flower), restart=RestartPolicy(), servers=servers)

    def ready() -> None:
        panel = f"http://{url_host(reached_by(settings.host))}:{settings.port}"
        err.print()
        err.print(styled("bold green", "The panel is up."), "Ctrl-C stops it.")
        lines = [
            f"  API     {panel}   (described at {panel}/docs)",
        ]
        if flower:
            lines.append(f"  Flower  http://{LOOPBACK}:{settings.flower_port}   (user {settings.flower_user})")
        lines.append(f"  Logs    {data.logs}")
        for line in lines:
            err.print(line, soft_wrap=True)
        on_ready()

    with contextlib.suppress(KeyboardInterrupt):
        whole.run(ready)
