"""Locks with flock, without it, and between a process that has it and one that has not."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from proxygrm.core.files import lock, lock_record
from support.refusals import refused

pytestmark = pytest.mark.slow

CODE = Path(__file__).parents[5]
NO_FLOCK = CODE / "tests" / "support" / "no_flock.py"
HOLD = """
import sys
from pathlib import Path
from proxygrm.core.files import lock
with getattr(lock, sys.argv[2])(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    sys.stdin.read()
"""
COUNT = """
import sys, time
from pathlib import Path
from proxygrm.core.files import lock
folder = Path(sys.argv[1])
for _ in range(20):
    with lock.held(folder / "lock", "busy", wait_s=120):
        (folder / "inside").mkdir()
        number = int((folder / "number").read_text())
        time.sleep(0.001)
        (folder / "number").write_text(str(number + 1))
        (folder / "inside").rmdir()
"""


def python(flock: str, *words: str) -> list[str]:
    """flock: the error of flock, "" for none."""
    command = [sys.executable, *words]
    return [sys.executable, str(NO_FLOCK), flock, *command] if flock else command


def started(command: list[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=CODE, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def holder(path: Path, flock: str, how: str = "held") -> subprocess.Popen[str]:
    process = started(python(flock, "-c", HOLD, str(path), how))
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n", process.communicate()
    return process


def attempt(path: Path, flock: str, how: str = "held") -> tuple[int, str]:
    done = subprocess.run(
        python(flock, "-c", HOLD, str(path), how), cwd=CODE, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return done.returncode, (done.stderr.strip().splitlines() or [""])[-1]


BOTH = ["", "ENOSYS", "EOPNOTSUPP", "ENOLCK"]


@pytest.mark.parametrize("first", BOTH)
@pytest.mark.parametrize("second", ["", "ENOSYS"])
def test_a_second_process_learns_the_holder_and_gets_the_lock_afterwards(tmp_path, first, second):
    path = tmp_path / ".lock"
    process = holder(path, first)
    code, message = attempt(path, second)
    assert code == 1
    assert "busy (`-c /" in message
    assert f"process {process.pid} on {os.uname().nodename}, for " in message
    assert "remove" not in message
    process.communicate()
    assert process.returncode == 0
    assert attempt(path, second) == (0, "")
    assert attempt(path, first) == (0, "")
    assert not [file for file in tmp_path.iterdir() if file.stat().st_size]


@pytest.mark.parametrize("first", BOTH)
@pytest.mark.parametrize("second", ["", "ENOSYS"])
def test_the_files_of_a_killed_holder_block_nobody(tmp_path, first, second):
    path = tmp_path / ".lock"
    process = holder(path, first)
    process.kill()
    process.communicate()
    assert [file for file in tmp_path.iterdir() if file.stat().st_size]
    assert attempt(path, second) == (0, "")


def test_a_holder_that_is_a_zombie_has_ended(tmp_path):
    process = holder(tmp_path / ".lock", "ENOSYS")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
    assert attempt(tmp_path / ".lock", "ENOSYS") == (0, "")
    process.communicate()


@pytest.mark.parametrize("kinds", [("ENOSYS",) * 4, ("", "ENOSYS", "", "ENOSYS")])
def test_processes_that_count_one_number_up_never_lose_a_step(tmp_path, kinds):
    """They start with the marker of a killed process, which all of them try to take over."""
    killed = holder(tmp_path / "lock", "ENOSYS")
    killed.kill()
    killed.communicate()
    (tmp_path / "number").write_text("0")
    running = [started(python(kind, "-c", COUNT, str(tmp_path))) for kind in kinds]
    ended = [process.communicate(timeout=100) for process in running]
    assert [process.returncode for process in running] == [0] * 4, ended
    assert (tmp_path / "number").read_text() == "80"
    assert not list(tmp_path.glob(".*"))


def leave_marker(path: Path, **changes: object) -> Path:
    record = json.loads(lock_record.of_this_process().text()) | changes
    marker = lock.Lock(path).marker
    marker.write_text(json.dumps(record))
    return marker


def test_a_process_of_another_host_is_never_assumed_to_have_ended(tmp_path):
    marker = leave_marker(
        tmp_path / ".lock", host="login2\x1b[2J", machine="login2", pid=2**22 + 1, command="submit\nx"
    )
    for flock in ("", "ENOSYS"):
        code, message = attempt(tmp_path / ".lock", flock)
        assert code == 1
        assert "busy (`submit?x` of " in message
        assert re.search(r"on login2\?\[2J, for \d+ s", message)
        assert message.endswith(f"; if it has ended, remove {marker})")
    assert marker.exists()


def test_a_reused_process_id_is_not_taken_for_the_holder(tmp_path):
    marker = leave_marker(tmp_path / ".lock", started=1)
    with lock.held(tmp_path / ".lock", "busy"):
        assert not marker.exists()
    leave_marker(tmp_path / ".lock")
    with refused("file.locked", path=tmp_path / ".lock"), lock.held(tmp_path / ".lock", "busy"):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": -1}', '{"pid": 3}', "\0" * 200])
def test_a_marker_without_a_record_counts_as_held(tmp_path, text):
    marker = leave_marker(tmp_path / ".lock")
    marker.write_text(text)
    holder = f"unknown holder; if none of your processes is running, remove {marker}"
    with refused("file.locked", holder=holder), lock.held(tmp_path / ".lock", "busy"):
        pass
    assert marker.exists()


@pytest.mark.parametrize("kind", ["", "ENOSYS"])
def test_shared_holders_exclude_a_single_one_and_the_other_way_round(tmp_path, kind):
    path = tmp_path / "in-use"
    one, two = holder(path, kind, "shared"), holder(path, kind, "shared")
    assert attempt(path, kind)[0] == 1
    one.communicate()
    assert attempt(path, kind)[0] == 1
    two.kill()
    two.communicate()
    assert attempt(path, kind) == (0, "")
    alone = holder(path, kind)
    code, message = attempt(path, kind, "shared")
    assert (code, f"process {alone.pid} on" in message) == (1, True)
    alone.communicate()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with refused("file.cannot-lock", path=tmp_path / "no" / "lock"), lock.held(tmp_path / "no" / "lock", "busy"):
        pass


def test_an_error_that_is_not_about_flock_is_not_reported_as_another_holder(tmp_path):
    code, message = attempt(tmp_path / ".lock", "EIO")
    assert code == 1
    assert message.endswith(f"cannot lock {tmp_path}/.lock: Input/output error")


def test_a_submit_without_flock_names_the_other_submit(tmp_path):
    submit = "from jobs.engine.run_folder.ledger import Ledger; from pathlib import Path; import sys\n"
    submit += "with Ledger(Path(sys.argv[1])).lock('submit'): print('held', flush=True); sys.stdin.read()"
    process = started(python("ENOSYS", "-c", submit, str(tmp_path / "run")))
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    second = started(python("ENOSYS", "-c", submit, str(tmp_path / "run")))
    message = second.communicate()[1]
    assert f"another submit is working in {tmp_path / 'run'} (" in message
    assert f"process {process.pid} on" in message
    assert "wait for it, or use another run with --run NAME" in message
    process.communicate()
    third = started(python("ENOSYS", "-c", submit, str(tmp_path / "run")))
    assert third.communicate()[0] == "held\n"


def test_nothing_but_the_lock_module_calls_flock():
    """flock is easy to misuse: an OSError may mean another holder, or a file system without flock.

    A private folder is locked as a folder, on the node itself; if that fails nothing is removed."""
    folders = ("proxygrm", "jobs", "slurm", "data_tools")
    names = [path for folder in folders for path in (CODE / folder).rglob("*.py") if "fcntl" in path.read_text()]
    assert sorted(names) == [CODE / "proxygrm/core/files/lock.py", CODE / "proxygrm/core/runtime/held_folder.py"]


SHELL = """
. "$1/requirements/one_at_a_time.sh"
cd "$2"
one_at_a_time "a lock" "$3" setup
echo held
[ -z "$4" ] || cat
"""


def shell(flock: str, folder: Path, seconds: int = 30, waits: str = "") -> list[str]:
    words = ["bash", "-c", SHELL, "bash", str(CODE), str(folder), str(seconds), waits]
    return [sys.executable, str(NO_FLOCK), flock, *words] if flock else words


@pytest.mark.parametrize("flock", ["", "ENOSYS"])
def test_a_second_setup_waits_for_the_first_and_names_it(tmp_path, flock):
    first = started(shell(flock, tmp_path, waits="yes"))
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    late = started(shell(flock, tmp_path, seconds=0))
    message = late.communicate()[1]
    assert late.returncode == 2
    assert message.count("\n") == 1
    if flock:
        assert f"setup: process {first.pid} on {os.uname().nodename}, since " in message
        assert f"remove {tmp_path}/a lock.held" in message
    waiting = started(shell(flock, tmp_path))
    first.communicate()
    assert waiting.communicate()[0] == "held\n"
    assert not (tmp_path / "a lock.held").exists()
