"""RewardBench as released (allenai/reward-bench, first version), split `filtered`: 2,985 rows without images.

A row: prompt, chosen, chosen_model, rejected, rejected_model, subset, id. Ids are numbers that may repeat across
subsets, so a pair's id is SUBSET/ID; its category is the subset. The release has another split, `raw`, whose
subsets are larger: of a folder, only the file of `filtered` is read.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source
from proxygrm.core.ids import BadId, has_id, id_text
from proxygrm.evaluate.benchmarks.rewardbench import SIZES, row_id


def read(row: dict[str, Any]) -> RawPair | Excluded:
    id_, subset = row.get("id"), row.get("subset")
    if not isinstance(subset, str) or subset not in SIZES:
        return Excluded("no_subset", f"subset is {subset!r}, none of RewardBench's", id=id_)
    if not has_id(id_):
        return Excluded("bad_id", "no id", id=id_)
    try:
        full_id = row_id(subset, id_text(id_))
    except BadId as error:
        return Excluded("bad_id", str(error), id=id_)
    return RawPair(full_id, row.get("prompt"), row.get("chosen"), row.get("rejected"), (), category=subset)


SOURCE = Source(
    "rewardbench",
    columns=("id", "prompt", "chosen", "rejected", "subset"),
    read=read,
    expected="RewardBench's split `filtered` (data/filtered-00000-of-00001.parquet), or a JSONL of its rows",
    license="odc-by",
    benchmark=True,
    files="filtered*",
)
