"""The parameters of a mixture, for its shards (`run.py`) and its merge (`merge.py`), and the files between them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from data_tools.mix.spec import MixSpec
from data_tools.steps.shards import Shard


@dataclass(frozen=True)
class Job:
    """What to mix; picklable, because shards run in separate processes."""

    spec: MixSpec
    out: Path
    sizes: tuple[int, ...]  # rows of each source


def paths(shard: Shard, parts: Path) -> dict[str, Path]:
    """The files of a shard's part; `account` is written last."""
    names = {"numbers": "numbers.u64", "signatures": "signatures.u32", "log": "dropped.jsonl", "lost": "lost.json",
             "account": "account.json"}  # fmt: skip
    return {kind: shard.path(parts / name) for kind, name in names.items()}


def lost_of(files: list[dict[str, Path]]) -> dict[str, Counter[str]]:
    """Rows that the shards left out, by source and reason."""
    lost: dict[str, Counter[str]] = {}
    for part in files:
        for name, counts in json.loads(part["lost"].read_text(encoding="utf-8")).items():
            lost.setdefault(name, Counter()).update(counts)
    return lost
