"""Logging inside a job: every line tells the time, the stage, the attempt and the rank.

A module logs with `logging.getLogger(__name__)`; the job calls `set_up` once. A command that does not call it prints
warnings and errors on standard error, without a prefix, as Python does by itself, and no information.
"""

from __future__ import annotations

import logging
import sys

OURS = ("jobs", "slurm", "proxygrm", "data_tools")
"""Loggers of this suite's packages. Those of libraries stay as the libraries set them."""


def set_up(stage: str, attempt: int, rank: int) -> None:
    """Send this process's log lines to standard output, which is the job's log. attempt: from 1. Calling it again
    replaces the prefix."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        logging.Formatter(
            f"[%(asctime)s {stage.replace('%', '%%')} attempt {attempt} rank {rank}] %(levelname)s %(message)s",
            datefmt="%H:%M:%S",
        )
    )
    for name in OURS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
