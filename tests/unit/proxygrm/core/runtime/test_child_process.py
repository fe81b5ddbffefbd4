"""Child processes of a job: their log, their end, and that nothing outlives the job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxygrm.core.runtime.child_process import ChildProcess
from support.refusals import refused

pytestmark = pytest.mark.slow

# Ignores SIGTERM, and starts a grandchild in a session of its own whose pid it writes down.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
open(sys.argv[1] + ".part", "w").write(str(child.pid)); os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(300)
"""
STARTER = """
import sys, time
from pathlib import Path
from proxygrm.core.runtime.child_process import ChildProcess
child = ChildProcess([sys.executable, "-c", sys.argv[2], sys.argv[1]], Path(sys.argv[1] + ".log"), grace_s=0.2)
print(child._process.pid, flush=True)
time.sleep(300)
"""


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(("script", "code"), [("true", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)])
def test_the_exit_code_is_the_command_s_own(tmp_path: Path, script: str, code: int) -> None:
    assert ChildProcess(["sh", "-c", script], tmp_path / "log").wait(60) == code


def test_output_is_appended_and_only_the_child_s_own_part_is_quoted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ValueError: of an earlier attempt\n")
    with ChildProcess(["sh", "-c", "echo to stdout; echo to stderr >&2; exit 3"], log) as child:
        child.wait(60)
    assert log.read_text() == "ValueError: of an earlier attempt\nto stdout\nto stderr\n"
    assert child.last_words() == "to stderr"
    with refused("child.failed", exit_code=3, log=log) as caught:
        child.raise_if_failed("the trainer")
    assert str(caught.value) == f"the trainer ended with exit code 3: to stderr (log: {log})"


def test_a_child_that_ended_well_raises_nothing(tmp_path: Path) -> None:
    with ChildProcess(["true"], tmp_path / "log") as child:
        child.wait(60)
    child.raise_if_failed("it")


def test_a_killed_child_is_named_with_its_signal_and_its_log_is_not_quoted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for name, hint in (("KILL", " (often because the node ran out of memory)"), ("SEGV", "")):
        child = ChildProcess(["sh", "-c", f"echo progress; kill -{name} $$"], log)
        child.wait(60)
        assert child.how_it_ended() == f"was killed by SIG{name}{hint}; log: {log}"


def test_it_gets_its_environment_and_folder_and_an_empty_input(tmp_path: Path) -> None:
    child = ChildProcess(["sh", "-c", "cat; pwd; echo $X"], tmp_path / "log", environment={"X": "1"}, folder=tmp_path)
    child.wait(60)
    assert (tmp_path / "log").read_text() == f"{tmp_path}\n1\n"


def test_stop_ends_a_stubborn_command_and_its_detached_child(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with ChildProcess([sys.executable, "-c", STUBBORN, str(pid_file)], tmp_path / "log", grace_s=0.3) as child:
        wait_until(pid_file.exists)
        assert child.poll() is None
        assert child.how_it_ended() == "is still running"
    assert child.poll() == 137
    assert not alive(int(pid_file.read_text()))


def test_stop_asks_the_whole_process_group_to_end(tmp_path: Path) -> None:
    """As a shell that waits for its child does not pass signals on."""
    script = "(trap 'echo child ended; exit' TERM; echo ready; while :; do sleep 0.05; done) & wait"
    with ChildProcess(["sh", "-c", script], tmp_path / "log", grace_s=60) as child:
        wait_until(lambda: "ready" in (tmp_path / "log").read_text())
        started = time.monotonic()
        child.stop()
    assert time.monotonic() - started < 30
    assert "child ended" in (tmp_path / "log").read_text()


def test_orphans_of_a_command_that_ended_by_itself_end_too(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = ChildProcess(["sh", "-c", f"setsid sleep 300 & echo $! > {pid_file}"], tmp_path / "log")
    assert child.wait(60) == 0
    assert not alive(int(pid_file.read_text()))


@pytest.mark.parametrize("victim", ["starter", "guard"])
def test_nothing_of_the_command_is_left_when_its_starter_or_its_guard_is_killed(tmp_path: Path, victim: str) -> None:
    pid_file = tmp_path / "pid"
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(pid_file), STUBBORN],
        cwd=Path(__file__).parents[5],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    guard = int(starter.stdout.readline())
    wait_until(pid_file.exists)
    grandchild = int(pid_file.read_text())
    command = int(Path(f"/proc/{grandchild}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(starter.pid if victim == "starter" else guard, signal.SIGKILL)
    try:
        wait_until(lambda: not alive(command))
        if victim == "starter":
            wait_until(lambda: not alive(grandchild))
    finally:
        starter.kill()
        starter.wait()
        if alive(grandchild):
            os.kill(grandchild, signal.SIGKILL)


def test_an_announcement_of_the_scheduler_ends_neither_the_guard_nor_the_command(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ChildProcess(["sh", "-c", "kill -USR1 $$; kill -USR2 $$; echo alive; sleep 300"], log) as child:
        for _ in range(20):  # from its very first moment
            child._process.send_signal(signal.SIGUSR1)
            child._process.send_signal(signal.SIGUSR2)
            time.sleep(0.01)
        wait_until(lambda: "alive" in log.read_text())
        assert child.poll() is None


def test_it_starts_while_other_threads_hold_locks_and_their_signal_masks_stay(tmp_path: Path) -> None:
    lock, release = threading.Lock(), threading.Event()

    def hold() -> None:
        with lock:
            release.wait(60)

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert ChildProcess(["true"], tmp_path / "log").wait(60) == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    release.set()
    for thread in threads:
        thread.join()


def test_output_is_dropped_where_the_log_has_no_room_and_the_caller_wants_that(tmp_path: Path) -> None:
    child = ChildProcess(["sh", "-c", "echo lost; exit 2"], tmp_path / "log", log_room_bytes=1 << 60)
    assert child.wait(60) == 2
    assert (tmp_path / "log").read_text() == ""
    child = ChildProcess(["true"], tmp_path / "gone" / "log", log_room_bytes=1)
    assert child.wait(60) == 0
    with pytest.raises(OSError, match="No such file"):
        ChildProcess(["true"], tmp_path / "gone" / "log")
