from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission

ROOT = Path(__file__).parents[3]


class Job:
    """Leaves a module's teardown, an exit function and a thread behind; each writes its line."""

    def __init__(self, folder: Path, how: str) -> None:
        self.folder, self.how = folder, how

    def __call__(self) -> str:
        import atexit
        import threading
        import time

        folder = self.folder

        def write(name: str) -> None:
            (folder / name).touch()

        class Taken:
            def __del__(self) -> None:
                write("teardown")

        def late() -> None:
            time.sleep(0.2)
            write("thread")

        sys.modules["kept"] = Taken()  # type: ignore[assignment]
        atexit.register(write, "exit function")
        threading.Thread(target=late).start()
        if self.how == "raises":
            raise ValueError("no")
        if self.how == "exits":
            raise SystemExit(7)
        return "done"


@pytest.mark.parametrize(
    ("how", "status", "left"),
    [
        ("ends", 0, {"thread", "exit function"}),
        ("raises", 1, {"thread", "exit function", "teardown"}),
        ("exits", 7, {"thread", "exit function", "teardown"}),
    ],
)
def test_a_job_that_has_ended_well_is_not_taken_apart(tmp_path, how, status, left):
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        DelayedSubmission(Job(tmp_path, how)).dump(tmp_path / "1_submitted.pkl")
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    job = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    job |= {"SLURM_LOCALID": "0", "SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_JOB_NUM_NODES": "1"}
    environment = os.environ | job | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-u", "-m", "slurm.job_process", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert {name for name in ("thread", "exit function", "teardown") if (tmp_path / name).exists()} == left
    assert (tmp_path / "1_0_result.pkl").exists() == (how != "exits")
    assert ("Job completed successfully" in done.stdout + done.stderr) == (how == "ends")
