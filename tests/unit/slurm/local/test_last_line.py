"""Which line of a daemon's log is its reason."""

from __future__ import annotations

import pytest

from slurm.local.daemons import last_line


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (
            "2026-11-27 14:12:01 0 [ERROR] InnoDB: Cannot allocate memory for the buffer pool\n"
            "2026-11-27 14:12:01 0 [ERROR] Aborting\n",
            "0 [ERROR] InnoDB: Cannot allocate memory for the buffer pool",
        ),
        ("[2026-11-27T14:12:01.123] fatal: no room\nbye\n", "fatal: no room"),
        ("starting\nready\n", "ready"),
    ],
)
def test_the_last_line_that_says_why(log: str, line: str) -> None:
    assert last_line(log) == line
