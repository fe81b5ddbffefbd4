"""The run folder's own writes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jobs.engine.run_folder.ledger import Ledger


def test_many_who_make_the_same_run_folder_at_once_all_find_it_writable(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "run")
    with ThreadPoolExecutor(8) as people:
        for made in [people.submit(ledger.create) for _ in range(2000)]:
            made.result()
    assert list(ledger.folder.iterdir()) == []
