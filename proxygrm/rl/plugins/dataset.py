"""verl's dataset, with an account of the rows it leaves out.

verl 0.9.1 drops prompts that are longer than allowed, and rows whose picture it cannot read, without a count: a
training on half of its pairs looks like any other.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from verl.utils.dataset.rl_dataset import RLHFDataset

from proxygrm.core.files.whole_file import write_json

NAMED = 1000


class AccountingDataset(RLHFDataset):
    """verl's own; `data.account` names the folder for `left_out_FILE.json`."""

    def maybe_filter_out_long_prompts(self, dataframe: Any = None) -> Any:
        kept = super().maybe_filter_out_long_prompts(dataframe)
        name = "_".join(Path(file).stem for file in self.original_data_files)
        account(dataframe, kept, Path(self.config.account) / f"left_out_{name}.json", self.max_prompt_length)
        return kept


def account(before: Any, kept: Any, file: Path, longest: int) -> None:
    """Writes how many rows of a `datasets.Dataset` were kept and the ids of others, and says so when there are any."""
    missing: Counter[str] = Counter()
    if len(kept) < len(before):
        missing = Counter(_ids(before)) - Counter(_ids(kept))
    left_out = len(before) - len(kept)
    why = f"the prompt is longer than {longest:,} tokens, pictures included, or a picture cannot be read"
    row = {"rows": len(before), "kept": len(kept), "left_out": left_out, "why": why, "ids": sorted(missing)[:NAMED]}
    write_json(file, row)
    if left_out:
        print(f"{left_out:,} of {len(before):,} rows are left out: {why}; {file} names them", flush=True)


def _ids(rows: Any) -> list[str]:
    """Of all rows; without a look at their pictures."""
    return [str(row.get("id", "")) for row in rows.select_columns(["extra_info"])["extra_info"]]
