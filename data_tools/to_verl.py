"""Training rows for verl: parquet with the pictures' bytes inside.

verl takes `images` out of a row before the reward function sees it, so `extra_info` carries what the proxy needs:
the texts, and the picture's path in the pairs folder, which every node can read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_tools.preference import PreferencePair
from proxygrm.prompts import IMAGE_TAG, grm_prompt

DATA_SOURCE = "proxygrm"
_BATCH = 256


def verl_row(pair: PreferencePair, index: int, split: str, pairs_dir: Path) -> dict[str, Any]:
    """One row; `reward_model.ground_truth` is the label as text and `extra_info.label` the same as a number."""
    paths = pair.image_paths(pairs_dir)
    prompt = grm_prompt(pair.question, pair.response_1, pair.response_2, images=len(paths))
    return {
        "data_source": DATA_SOURCE,
        "prompt": [{"role": "user", "content": prompt}],
        "images": [{"bytes": path.read_bytes(), "path": None} for path in paths],
        "ability": "judge",
        "reward_model": {"style": "rule", "ground_truth": str(pair.label)},
        "extra_info": {
            "index": index,
            "split": split,
            "id": pair.id,
            "source": pair.source,
            "question": pair.question,
            "response_1": pair.response_1,
            "response_2": pair.response_2,
            "label": pair.label,
            "image": str(paths[0]) if paths else None,
            "images": [str(path) for path in paths],
        },
    }


def check_row(row: dict[str, Any]) -> None:
    """Accuracy reads the label from one field and the proxy from another: they must agree. So must the pictures."""
    truth, label = row["reward_model"]["ground_truth"], row["extra_info"]["label"]
    if truth != str(label) or label not in (1, 2):
        raise ValueError(f"row {row['extra_info']['id']!r}: ground truth {truth!r} against label {label!r}")
    tags = row["prompt"][0]["content"].count(IMAGE_TAG)
    if tags != len(row["images"]) or tags != len(row["extra_info"]["images"]):
        raise ValueError(f"row {row['extra_info']['id']!r}: {tags} image tags for {len(row['images'])} pictures")


def write_verl(path: Path, pairs: Iterable[PreferencePair], split: str, pairs_dir: Path) -> int:
    """Write the pairs (in order) as verl's parquet, whole or not at all; returns their number. Streams."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    count, batch = 0, []
    try:
        with pq.ParquetWriter(scratch, _schema(), compression="zstd") as writer:
            for pair in pairs:
                row = verl_row(pair, count, split, pairs_dir)
                check_row(row)
                batch.append(row)
                count += 1
                if len(batch) == _BATCH:
                    writer.write_table(pa.Table.from_pylist(batch, schema=_schema()))
                    batch = []
            writer.write_table(pa.Table.from_pylist(batch, schema=_schema()))
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return count


def _schema():
    import pyarrow as pa

    text = pa.string()
    words = ("split", "id", "source", "question", "response_1", "response_2")
    extra = [("index", pa.int64()), *((word, text) for word in words)]
    extra += [("label", pa.int64()), ("image", text), ("images", pa.list_(text))]
    return pa.schema(
        [
            ("data_source", text),
            ("prompt", pa.list_(pa.struct([("role", text), ("content", text)]))),
            ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", text)]))),
            ("ability", text),
            ("reward_model", pa.struct([("style", text), ("ground_truth", text)])),
            ("extra_info", pa.struct(extra)),
        ]
    )
