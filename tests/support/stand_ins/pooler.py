"""A real pgbouncer in front of a database."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from runtime.processes.free_ports import free_port
from runtime.processes.supervisor import ManagedProcess, RestartPolicy, Supervisor
from runtime.servers.server_account import unprivileged_account
from tests.support.sockets import port_open

# pgbouncer 1.18, which Debian 12 has, ends when a session closes while a cancellation for it is under way. A test that
# cancels a statement and then drops its database does both.
AT_ONCE = RestartPolicy(first_delay_s=0.1, max_delay_s=1.0)


@contextmanager
def pgbouncer(app_url: str, directory: Path, mode: str, more: str = "") -> Iterator[str]:
    """The application's URL through a pgbouncer in that mode. It leads to every database of the server, for one login.

    If it dies it is started again, as a service manager would.
    ``directory``: becomes readable to all, because root may not run it. ``more``: further lines of its settings.
    """
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    url, port = make_url(app_url), free_port()
    account = unprivileged_account()
    config = directory / f"{mode}.ini"
    config.write_text(
        f"[databases]\n* = host=127.0.0.1 port={url.port} user={url.username} password={url.password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = {mode}\nserver_login_retry = 1\n"
        f"default_pool_size = 30\nmax_client_conn = 500\n{more}\n"
    )
    # Root may not run it; who it runs as must be able to read its file.
    for path in (config, *config.parents):
        if account is not None and path.is_relative_to("/tmp"):  # noqa: S108 - pytest's own
            path.chmod(path.stat().st_mode | 0o055)
    user = ["-u", "nobody"] if account is not None else []
    process = ManagedProcess(
        f"pgbouncer-{mode}", [program, *user, str(config)], {}, directory / f"{mode}.log", ready=port_open(port)
    )
    supervisor = Supervisor([process], restart=AT_ONCE)
    with supervisor:
        watcher = threading.Thread(target=supervisor.wait, name="pgbouncer's supervisor")
        watcher.start()
        try:
            yield url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        finally:
            supervisor.request_stop()
            watcher.join()
