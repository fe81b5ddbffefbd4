"""Single responses with scores -> pairs: the best against the worst of one question, its pictures and instruction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from data_tools.ingest.part import PAIR_COLUMNS, Job, PartWriter, pair_values
from data_tools.rows.preference import arrange
from data_tools.steps.account import Account, Where

_BETWEEN, _BEST, _WORST, _UNPAIRED, _TIE = range(5)
_REASONS = {_BETWEEN: "between", _UNPAIRED: "unpaired", _TIE: "tie"}


def pair_scored(job: Job, scored: list[Path], target: Path, account: Account) -> None:
    """Write the pairs as one more part, in the order in which they are complete.

    The row of the better response is the pair's; that of the worse leaves as `partner`. The first of equally good
    (or bad) ones is taken. In memory: 16 bytes a response, and the text of one for each group that is still open.
    """
    keys, scores = (
        np.concatenate([pq.read_table(part, columns=[name])[name].to_numpy() for part in scored])
        for name in ("key", "score")
    )
    what = roles(keys, scores)
    waiting: dict[int, dict[str, Any]] = {}
    at = 0
    with PartWriter(target, PAIR_COLUMNS) as writer:
        for part in scored:
            for batch in pq.ParquetFile(part).iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    role = int(what[at])
                    at += 1
                    if role in _REASONS:
                        _leave(job, row, _REASONS[role], account)
                        continue
                    other = waiting.pop(row["key"], None)
                    if other is None:
                        waiting[row["key"]] = row
                        continue
                    best, worst = (row, other) if role == _BEST else (other, row)
                    if best["response"].strip() == worst["response"].strip():
                        _leave(job, best, "same_responses", account)
                        _leave(job, worst, "same_responses", account)
                        continue
                    _leave(job, worst, "partner", account, f"of {best['id']}")
                    pair = arrange(
                        best["id"], job.name, best["question"], best["response"], worst["response"], best["images"],
                        job.license or job.source.license,
                    )  # fmt: skip
                    size = len(pair.response_1) + len(pair.response_2)
                    writer.add(pair_values(pair, best["file"], best["row"]), size)


def roles(keys: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """For each response, what it is among those with the same key."""
    place = np.arange(len(keys))
    down, up = np.lexsort((place, -scores, keys)), np.lexsort((place, scores, keys))
    start: np.ndarray = np.ones(len(keys), dtype=bool)
    start[1:] = keys[down][1:] != keys[down][:-1]
    group: np.ndarray = np.empty(len(keys), dtype=np.int64)
    group[down] = np.cumsum(start) - 1
    best, worst = down[start], up[start]
    what: np.ndarray = np.full(len(keys), _BETWEEN, dtype=np.int8)
    what[best], what[worst] = _BEST, _WORST
    what[(scores[best] == scores[worst])[group]] = _TIE
    what[(np.bincount(group, minlength=len(best)) == 1)[group]] = _UNPAIRED
    return what


def _leave(job: Job, row: dict[str, Any], reason: str, account: Account, detail: str = "") -> None:
    account.leave(Where(job.files[row["file"]].name, row["row"]), row["id"], reason, bad=False, detail=detail)
