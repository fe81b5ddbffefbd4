"""Single responses with scores -> pairs: the best and the worst response to one question, images and instruction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from data_tools.ingest.part import PAIR_COLUMNS, Job, PartWriter, pair_values
from data_tools.rows.preference import arrange
from data_tools.steps.account import Account, RowLocation

_BETWEEN, _BEST, _WORST, _UNPAIRED, _TIE = range(5)
_REASONS = {_BETWEEN: "between", _UNPAIRED: "unpaired", _TIE: "tie"}


def pair_scored(job: Job, scored: list[Path], target: Path, account: Account) -> None:
    """Write the pairs as one more part, in the order in which they become complete.

    The pair takes the row of the better response; that of the worse is excluded as `partner`. Of equally good (or bad)
    responses the first counts. Memory: 16 bytes per response, and one text for each group that is still incomplete.
    """
    keys, scores = (
        np.concatenate([pq.read_table(part, columns=[name])[name].to_numpy() for part in scored])
        for name in ("key", "score")
    )
    role_of = roles(keys, scores)
    waiting: dict[int, dict[str, Any]] = {}
    at = 0
    with PartWriter(target, PAIR_COLUMNS) as writer:
        for part in scored:
            for batch in pq.ParquetFile(part).iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    role = int(role_of[at])
                    at += 1
                    if role in _REASONS:
                        _exclude(job, row, _REASONS[role], account)
                        continue
                    other = waiting.pop(row["key"], None)
                    if other is None:
                        waiting[row["key"]] = row
                        continue
                    best, worst = (row, other) if role == _BEST else (other, row)
                    if best["response"].strip() == worst["response"].strip():
                        _exclude(job, best, "same_responses", account)
                        _exclude(job, worst, "same_responses", account)
                        continue
                    _exclude(job, worst, "partner", account, f"of {best['id']}")
                    pair = arrange(
                        best["id"], job.name, best["question"], best["response"], worst["response"], best["images"],
                        job.license or job.source.license,
                    )  # fmt: skip
                    size = len(pair.response_1) + len(pair.response_2)
                    writer.add(pair_values(pair, best["file"], best["row"]), size)


def roles(keys: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The role of each response among those with the same key."""
    position = np.arange(len(keys))
    down, up = np.lexsort((position, -scores, keys)), np.lexsort((position, scores, keys))
    start: np.ndarray = np.ones(len(keys), dtype=bool)
    start[1:] = keys[down][1:] != keys[down][:-1]
    group: np.ndarray = np.empty(len(keys), dtype=np.int64)
    group[down] = np.cumsum(start) - 1
    best, worst = down[start], up[start]
    role: np.ndarray = np.full(len(keys), _BETWEEN, dtype=np.int8)
    role[best], role[worst] = _BEST, _WORST
    role[(scores[best] == scores[worst])[group]] = _TIE
    role[(np.bincount(group, minlength=len(best)) == 1)[group]] = _UNPAIRED
    return role


def _exclude(job: Job, row: dict[str, Any], reason: str, account: Account, detail: str = "") -> None:
    account.exclude(RowLocation(job.files[row["file"]].name, row["row"]), row["id"], reason, bad=False, detail=detail)
