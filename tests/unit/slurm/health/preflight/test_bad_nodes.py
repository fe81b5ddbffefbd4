"""Excluding bad nodes: what scontrol is told, and that nothing can come between the requeue and the exclusion."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from slurm import commands
from slurm.health.preflight.bad_nodes import exclude_and_requeue
from support.refusals import refused

SCONTROL = """#!{python}
import json, pathlib, sys
typed = sys.stdin.read()
log = pathlib.Path(__file__).with_name("log")
with log.open("a") as file:
    file.write(json.dumps((sys.argv[1:], typed.splitlines())) + "\\n")
if sys.argv[1:2] == ["show"]:
    print("JobId=27 ExcNodeList={excluded} NodeList=a1")
elif "27" not in typed:
    sys.exit("slurm_requeue error: Invalid job id specified")
"""


def told(folder: Path) -> list[tuple[list[str], list[str]]]:
    """(arguments, typed lines) of each scontrol."""
    return [tuple(json.loads(line)) for line in (folder / "log").read_text().splitlines()]


def scontrol(folder: Path, monkeypatch: pytest.MonkeyPatch, excluded: str, job: str = "27") -> None:
    program = folder / "scontrol"
    program.write_text(SCONTROL.format(python=sys.executable, excluded=excluded))
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", job)
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)


@pytest.mark.parametrize(("excluded", "after"), [("(null)", "b1,b2"), ("old", "old,b1,b2")])
def test_one_process_is_told_of_the_requeue_and_of_the_exclusion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, excluded: str, after: str
) -> None:
    """A second process might not be started any more: the job's other tasks end, and SLURM kills this one."""
    scontrol(tmp_path, monkeypatch, excluded)
    exclude_and_requeue(["b1", "b2"])
    _, last = told(tmp_path)
    assert last == ([], ["requeue 27", f"update jobid=27 ExcNodeList={after}"])


def test_what_the_requeue_ends_is_ended_after_the_exclusion_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's process has threads, which take a signal that the main thread blocks."""
    scontrol(tmp_path, monkeypatch, "(null)")
    run = commands._run

    def ended_meanwhile(command: Sequence[str], environment: Mapping[str, str], timeout_s: float, typed: str) -> object:
        if typed:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
        return run(command, environment, timeout_s, typed)

    def end(signum: int, frame: object) -> None:
        raise SystemExit(143)

    monkeypatch.setattr(commands, "_run", ended_meanwhile)
    signal.signal(signal.SIGTERM, end)  # conftest.py puts back what was there
    over = threading.Event()
    watcher = threading.Thread(target=over.wait, daemon=True)
    watcher.start()
    try:
        with pytest.raises(SystemExit) as ended:
            exclude_and_requeue(["b1"])
    finally:
        over.set()
    assert ended.value.code == 143
    assert told(tmp_path)[-1] == ([], ["requeue 27", "update jobid=27 ExcNodeList=b1"])


def test_a_requeue_that_slurm_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scontrol(tmp_path, monkeypatch, "(null)", job="28")
    with refused("slurm.command-failed", reason="slurm_requeue error: Invalid job id specified"):
        exclude_and_requeue(["b1"])
