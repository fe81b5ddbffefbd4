"""FAILED.N.json: why an attempt at an element of a stage failed, written by the job itself."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jobs.engine.run_folder import secrecy
from jobs.engine.run_folder.attempts import Attempt
from jobs.engine.run_folder.records import read_json, write_json
from proxygrm.core.errors import UserError

CLOCKS_DIFFER_S = 30.0
"""A node's clock may be that much behind the scheduler's; a requeue takes longer."""


def record(folder: Path, cell: int, rank: int, error: Exception) -> None:
    """The first failure of an attempt stays; that of an earlier attempt is replaced. folder: the stage's."""
    path, attempt = folder / f"FAILED.{cell}.json", Attempt.current()
    if attempt.wrote(read_json(path)):
        return
    reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    write_json(
        path,
        {
            "reason": secrecy.masked_words(reason),
            "code": error.code if isinstance(error, UserError) else "",
            "node": os.environ.get("SLURMD_NODENAME", ""),
            "rank": rank,
            "time": time.time(),
            "attempt": asdict(attempt),
        },
    )


def since(folder: Path, start: float) -> list[dict[str, Any]]:
    """The failures of a stage that were recorded after `start` (seconds since the epoch), the first one first."""
    records = [read_json(path) for path in folder.glob("FAILED.*.json")]
    recent = [row for row in records if row and row["time"] >= start - CLOCKS_DIFFER_S]
    return sorted(recent, key=lambda row: row["time"])


def in_one_line(failure: Mapping[str, Any]) -> str:
    """The reason with its node; of a long text the first and the last line."""
    lines = [line.strip() for line in failure["reason"].splitlines() if line.strip()] or ["no reason given"]
    text = lines[0] if len(lines) == 1 else f"{lines[0][:200]} ... {lines[-1]}"
    where = f" (on {failure['node']})" if failure["node"] else ""
    return f"{text[:600]}{where}"
