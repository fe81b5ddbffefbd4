"""verl's dataset, with an account of the rows it drops.

verl 0.9.1 drops prompts that are too long, and rows whose image it cannot read, without a count: a training on half of
its pairs looks like any other.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from verl.utils.dataset.rl_dataset import RLHFDataset

from proxygrm.core.files.whole_file import write_json

MAX_IDS = 1000
"""Ids of dropped rows in the account."""
log = logging.getLogger(__name__)


class AccountingDataset(RLHFDataset):
    """verl's dataset; `data.account` names the folder for `left_out_FILE.json`."""

    def maybe_filter_out_long_prompts(self, dataframe: Any = None) -> Any:
        kept = super().maybe_filter_out_long_prompts(dataframe)
        name = "_".join(Path(file).stem for file in self.original_data_files)
        account(dataframe, kept, Path(self.config.account) / f"left_out_{name}.json", self.max_prompt_length)
        return kept


def account(before: Any, kept: Any, file: Path, longest: int) -> None:
    """Write how many rows of a `datasets.Dataset` were kept and the ids of the others; log when there are others."""
    dropped: Counter[str] = Counter()
    if len(kept) < len(before):
        dropped = Counter(_ids(before)) - Counter(_ids(kept))
    left_out = len(before) - len(kept)
    why = f"the prompt is longer than {longest:,} tokens, images included, or an image cannot be read"
    row = {"rows": len(before), "kept": len(kept), "left_out": left_out, "why": why, "ids": sorted(dropped)[:MAX_IDS]}
    write_json(file, row)
    if left_out:
        log.warning("%s of %s rows are left out: %s; %s names them", f"{left_out:,}", f"{len(before):,}", why, file)


def _ids(rows: Any) -> list[str]:
    """Of all rows, without loading their images."""
    return [str(row.get("id", "")) for row in rows.select_columns(["extra_info"])["extra_info"]]
