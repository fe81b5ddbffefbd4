from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxygrm.core.runtime.leash import leashed

# Ignores SIGTERM, and starts a grandchild in a session of its own whose pid it writes down.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
open(sys.argv[1] + ".part", "w").write(str(child.pid)); import os; os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(300)
"""


def wait_until(what, seconds=10.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(("script", "code"), [("", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_the_code_of_the_command_is_the_code_of_the_leash(script, code):
    assert subprocess.run(leashed(["sh", "-c", script])).returncode == code


def test_on_sigterm_even_a_stubborn_command_and_its_detached_child_end(tmp_path):
    pid_file = tmp_path / "pid"
    leash = subprocess.Popen(leashed([sys.executable, "-c", STUBBORN, str(pid_file)], grace_s=0.3))
    wait_until(pid_file.exists)
    grandchild = int(pid_file.read_text())
    leash.terminate()
    assert leash.wait(10) == 137
    assert not alive(grandchild)


def test_orphans_of_a_command_that_ended_by_itself_end_too(tmp_path):
    pid_file = tmp_path / "pid"
    subprocess.run(leashed(["sh", "-c", f"setsid sleep 300 & echo $! > {pid_file}"]), check=True)
    assert not alive(int(pid_file.read_text()))


def test_when_the_starter_is_killed_nothing_of_the_command_is_left(tmp_path):
    pid_file = tmp_path / "pid"
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time; from proxygrm.core.runtime.leash import leashed\n"
            "subprocess.Popen(leashed([sys.executable, '-c', sys.argv[2], sys.argv[1]], grace_s=0.2)); time.sleep(300)",
            str(pid_file),
            STUBBORN,
        ],
        cwd=Path(__file__).parents[5],
    )
    wait_until(pid_file.exists)
    grandchild = int(pid_file.read_text())
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    wait_until(lambda: not alive(grandchild))
