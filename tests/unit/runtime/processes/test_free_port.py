import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.processes import free_ports
from runtime.processes.free_ports import LOOPBACK, free_port, is_free, reserve_port

RESERVE = "import sys; from runtime.processes.free_ports import reserve_port; print(reserve_port(int(sys.argv[1])))"


def reserved_elsewhere(port: int, **environment: str) -> bool:
    """Let another process try to reserve the port."""
    ran = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", RESERVE, str(port)],
        cwd=Path(free_ports.__file__).parent.parent,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.strip() == "True"


def test_ports_are_distinct_free_and_outside_the_range_of_outgoing_connections() -> None:
    kernel_lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    chosen = [free_port() for _ in range(20)]
    assert len(set(chosen)) == 20
    assert all(is_free(port) for port in chosen)
    if kernel_lowest > 16_000:
        assert all(port < kernel_lowest for port in chosen)


def test_a_reserved_port_is_refused_to_another_process(tmp_path: Path) -> None:
    port = free_port()
    assert not reserved_elsewhere(port)
    assert not reserved_elsewhere(port, TMPDIR=str(tmp_path)), "wherever its temporary files are"
    assert reserve_port(port), "the same process may have it again"
    os.close(free_ports._reserved.pop(port))  # as at the end of a process
    assert reserved_elsewhere(port)


def test_a_port_somebody_listens_on_is_not_free() -> None:
    port = free_port()
    with socket.create_server((LOOPBACK, port)):
        assert not is_free(port)
        assert not reserve_port(port)
    assert reserve_port(port)


def test_a_listener_on_every_address_counts() -> None:
    port = free_port()
    with socket.create_server(("", port)):
        assert not is_free(port)


def test_no_room_below_the_kernels_range_means_any_unprivileged_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy = tmp_path / "range"
    greedy.write_text("1024\t65535\n")
    monkeypatch.setattr(free_ports, "_KERNEL_RANGE", greedy)
    assert free_ports._highest() == 65_535
