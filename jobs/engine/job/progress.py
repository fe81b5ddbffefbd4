"""progress.N.json: how far an element of a stage has come, for `proxygrm status`."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from jobs.engine.run_folder.records import write_json

WRITE_EVERY_S = 1.0
log = logging.getLogger(__name__)


class Progress:
    """Writes the file at most once a second, and a line into the job's log."""

    def __init__(self, folder: Path, cell: int) -> None:
        self.path = folder / f"progress.{cell}.json"
        self._written = 0.0

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.time()
        if now - self._written < WRITE_EVERY_S and done < total:
            return
        self._written = now
        write_json(self.path, {"done": done, "total": total, "note": note, "time": now})
        log.info("%d/%d %s", done, total, note)


def silent(done: int, total: int, note: str = "") -> None:
    """For ranks other than 0, which report nothing."""
