"""Serve Proxmox clusters.

    python -m lab.simulators.proxmox --port 8006 --cluster berlin --cluster riga --directory .data/proxmox

The first cluster listens on --port, the next one on the port above it, and so on; `--cluster riga=8106` names another
port. Each cluster writes the CA that the panel must trust to DIRECTORY/CLUSTER/ca.pem.

Environment: SIM_PVE_TOKEN_ID (USER@REALM!ID) and SIM_PVE_TOKEN_SECRET are the panel's API token, the same on every
cluster. SIM_CONTROL_KEY is the key of the control API.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from lab.simulators.keys import MissingSettingError, require, require_key
from lab.simulators.proxmox.certificates import make_certificates
from lab.simulators.proxmox.cluster import STATUS_CACHE_S, UNAUTHORIZED_DELAY_S
from lab.simulators.proxmox.server import LOOPBACK, new_cluster, serve_cluster


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lab.simulators.proxmox")
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--port", type=int, required=True, help="of the first cluster")
    parser.add_argument("--cluster", action="append", metavar="NAME[=PORT]", help="repeatable; default main")
    parser.add_argument("--node", action="append", help="of every cluster; repeatable; default pve1 to pve3")
    parser.add_argument("--hostname", action="append", default=[], help="more names for the certificates")
    parser.add_argument("--directory", type=Path, required=True, help="for the CA files")
    parser.add_argument("--unauthorized-delay", type=float, default=UNAUTHORIZED_DELAY_S, metavar="SECONDS")
    parser.add_argument("--status-cache", type=float, default=STATUS_CACHE_S, metavar="SECONDS")
    return parser.parse_args(arguments)


def ports_by_cluster(names: Sequence[str], first_port: int) -> dict[str, int]:
    """Cluster names with their ports."""
    ports: dict[str, int] = {}
    for index, item in enumerate(names):
        name, _, port = item.partition("=")
        ports[name] = int(port) if port else first_port + index
    return ports


async def serve(options: argparse.Namespace, token: tuple[str, str], control_key: str) -> None:
    """Serve every cluster until SIGINT or SIGTERM."""
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with contextlib.AsyncExitStack() as stack:
        for name, port in ports_by_cluster(options.cluster or ["main"], options.port).items():
            cluster = new_cluster(
                token_id=token[0],
                token_secret=token[1],
                nodes=options.node or ("pve1", "pve2", "pve3"),
                name=name,
                unauthorized_delay_s=options.unauthorized_delay,
                status_cache_s=options.status_cache,
            )
            certificates = make_certificates(
                options.directory / name, name, (LOOPBACK, "localhost", *options.hostname), datetime.now(UTC)
            )
            serving = serve_cluster(cluster, certificates, control_key=control_key, host=options.host, ports=(port,))
            await stack.enter_async_context(serving)
            # The server has read the key, and no other process may.
            certificates.key_file.unlink()
            sys.stdout.write(f"{name}: port {port}, SHA-256 {certificates.fingerprint}\n")
        sys.stdout.flush()
        await stopping.wait()


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Serve until a signal. Returns 2 if a setting is missing."""
    options = parse(arguments)
    try:
        token = require(environment, "SIM_PVE_TOKEN_ID"), require_key(environment, "SIM_PVE_TOKEN_SECRET")
        control_key = require_key(environment, "SIM_CONTROL_KEY")
    except MissingSettingError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    asyncio.run(serve(options, token, control_key))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
