"""What processes use, from /proc: CPU time and memory."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.processes.children import descendants

_GONE = (FileNotFoundError, ProcessLookupError)


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of these processes and of all below them, also of those that have ended.

    What a process that ended used is added to its parent's fields for children (fields 16 and 17 of the file).
    """
    ticks = 0
    for pid in _trees(pids):
        with contextlib.suppress(*_GONE):
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def proportional_bytes(pids: Iterable[int]) -> int:
    """Memory of the processes and of all below them. A page that several share counts for each in part (Pss)."""
    total = 0
    for pid in _trees(pids):
        with contextlib.suppress(*_GONE):
            found = re.search(r"(?m)^Pss:\s+(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"))
            total += 0 if found is None else int(found[1]) * 1024
    return total


def _trees(pids: Iterable[int]) -> set[int]:
    roots = list(pids)
    return {*roots, *(below for pid in roots for below in descendants(pid))}


@dataclass(slots=True)
class Used:
    """CPU seconds that were used within a block, once it has ended."""

    cpu_s: float = 0.0


@contextlib.contextmanager
def cpu_used(pids: Sequence[int]) -> Iterator[Used]:
    """Measure the CPU time of processes while the block runs."""
    used, before = Used(), cpu_s(pids)
    yield used
    used.cpu_s = cpu_s(pids) - before


def command_cpu_s(argv: Sequence[str]) -> float:
    """CPU seconds of a command that ends by itself."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)  # noqa: S603 - own commands
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def machine() -> str:
    """The machine in one line: processor, cores, memory."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"(?m)^model name\s*: (.+)$", cpuinfo)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{'unknown processor' if model is None else model[1]}, {os.cpu_count()} cores, {memory:.0f} GiB"
