import os
import subprocess
import sys

from runtime.processes.children import descendants, parent_of, process_ids

TREE = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_descendants_are_found_parents_first() -> None:
    with subprocess.Popen(  # noqa: S603 - this interpreter
        [sys.executable, "-S", "-c", TREE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as middle:
        assert middle.stdout is not None
        leaf = int(middle.stdout.readline())
        found = descendants(os.getpid())
        assert found.index(middle.pid) < found.index(leaf)
        assert descendants(middle.pid) == [leaf]
        assert parent_of(leaf) == middle.pid
        assert {leaf, middle.pid, os.getpid()} <= set(process_ids())
        assert middle.stdin is not None
        middle.stdin.close()
    assert parent_of(middle.pid) is None
