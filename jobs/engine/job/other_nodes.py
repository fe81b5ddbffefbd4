"""How node 0 learns that the stage has ended on the other nodes, before it checks what they made.

A node that fails instead ends the whole job (srun's --kill-on-bad-exit), so waiting needs no deadline.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from jobs.engine.run_folder.attempts import Attempt
from jobs.engine.run_folder.records import read_json, write_json

POLL_S = 0.2


def report_end(folder: Path, cell: int, rank: int, peak_mb: int) -> None:
    """Called on every node but the first. folder: the stage's. peak_mb: memory."""
    write_json(_mark(folder, cell, rank), {"attempt": asdict(Attempt.current()), "peak_memory_mb": peak_mb})


def wait_for_ends(folder: Path, cell: int, nodes: int) -> list[int]:
    """Peak memory of nodes 1 and up, MB, once all of them have ended in this attempt."""
    attempt, peaks = Attempt.current(), []
    for rank in range(1, nodes):
        path = _mark(folder, cell, rank)
        while (mark := read_json(path)) is None or not attempt.wrote(mark):
            time.sleep(POLL_S)
        path.unlink()
        peaks.append(mark["peak_memory_mb"])
    return peaks


def _mark(folder: Path, cell: int, rank: int) -> Path:
    return folder / f".ended.{cell}.{rank}.json"
