"""A process that works for another does not outlive it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PARENT = """
import sys
from concurrent.futures import ProcessPoolExecutor
import multiprocessing as mp
import os, time
from pathlib import Path
from alignguard_data.storage.child_process import end_with_parent

if __name__ == "__main__":
    with ProcessPoolExecutor(
        1, mp_context=mp.get_context("spawn"), initializer=end_with_parent
    ) as pool:
        Path(sys.argv[1]).write_text(str(pool.submit(os.getpid).result()))
        pool.submit(time.sleep, 600).result()
"""


def test_a_child_ends_when_its_parent_is_killed(tmp_path):
    script, pid_file = tmp_path / "parent.py", tmp_path / "child"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    parent = subprocess.Popen([sys.executable, script, pid_file], env=environment)
    child = int(_until(lambda: pid_file.exists() and pid_file.read_text()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _until(lambda: not _runs(child))


def _until(found):
    deadline = time.monotonic() + 120
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def _runs(pid: int) -> bool:
    """A zombie does not: in a container there may be no process to reap it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
