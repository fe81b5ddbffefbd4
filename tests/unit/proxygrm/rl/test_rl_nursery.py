"""Ray workers forked from a process with everything imported: they must look like freshly started ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxygrm.rl.cpu import nursery

SERVE = "import sys; from pathlib import Path; from proxygrm.rl.cpu.nursery import serve; serve(Path(sys.argv[1]), ())"


@pytest.fixture
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("n") / "s"
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(path)])
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield path
    process.terminate()
    process.wait(60)


def stand_in(socket: Path, script: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-S", "-E", nursery.__file__, str(socket), str(script), *arguments]


def test_a_forked_worker_has_its_own_arguments_folder_environment_streams_and_status(
    socket: Path, tmp_path: Path
) -> None:
    script = tmp_path / "it's a script.py"
    script.write_text(
        "import os, sys\n"
        "print(sys.argv[1:], os.getcwd(), os.environ['MINE'], sys.stdin.read(), __name__, os.getppid())\n"
        "print('to stderr', file=sys.stderr)\n"
        "sys.exit(7)\n"
    )
    run = subprocess.run(
        stand_in(socket, script, "a b", "ü"),
        input="typed",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MINE": "this worker's"},
        check=False,
    )
    assert run.returncode == 7
    assert run.stdout.startswith(f"['a b', 'ü'] {tmp_path} this worker's typed __main__")
    assert "to stderr" in run.stderr


def test_an_exception_is_shown_and_is_a_failure(socket: Path, tmp_path: Path) -> None:
    script = tmp_path / "w.py"
    script.write_text("raise ValueError('broken worker')")
    run = subprocess.run(stand_in(socket, script), capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "broken worker" in run.stderr


def test_a_signal_to_the_stand_in_reaches_the_worker(socket: Path, tmp_path: Path) -> None:
    script = tmp_path / "w.py"
    script.write_text("import time\nprint('up', flush=True)\ntime.sleep(60)")
    with subprocess.Popen(stand_in(socket, script), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(50) != 0


def test_many_workers_at_a_time_each_get_their_own_end(socket: Path, tmp_path: Path) -> None:
    script = tmp_path / "w.py"
    script.write_text("import sys, time\ntime.sleep(0.1)\nsys.exit(int(sys.argv[1]))")
    processes = [subprocess.Popen(stand_in(socket, script, str(i))) for i in range(12)]
    assert [process.wait(120) for process in processes] == list(range(12))


def test_without_a_nursery_the_worker_starts_as_plain_python(tmp_path: Path) -> None:
    script = tmp_path / "w.py"
    script.write_text("import sys; print(sys.argv[1:]); sys.exit(3)")
    run = subprocess.run(stand_in(tmp_path / "nobody", script, "x"), capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (3, "['x']\n")


def test_others_may_not_use_the_socket(socket: Path) -> None:
    assert socket.stat().st_mode & 0o077 == 0
