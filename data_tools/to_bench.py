"""Pairs -> benchmark JSONL, the shape that R1-Reward's and upstream's scripts read: {id, prompt, chosen, rejected,
image}. More than one picture stands as `images`, a list. Source, category, group and licence go along where known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc

_TAGS = ("source", "license", "category", "group")


def bench_lines(pairs: pa.Table, beside: Path) -> Iterator[bytes]:
    """beside: folder of the file to write; paths of pictures below it are written relative to it."""
    first = pc.equal(pairs["label"], 1)
    chosen = pc.if_else(first, pairs["response_1"], pairs["response_2"]).to_pylist()
    rejected = pc.if_else(first, pairs["response_2"], pairs["response_1"]).to_pylist()
    ids, prompts, images = (pairs[name].to_pylist() for name in ("id", "question", "images"))
    tags = [pairs[name].to_pylist() for name in _TAGS]
    start = f"{beside.resolve()}/"
    for i, paths in enumerate(images):
        row = {"id": ids[i], "prompt": prompts[i], "chosen": chosen[i], "rejected": rejected[i]}
        paths = [path.removeprefix(start) for path in paths]
        if paths:
            row |= {"image": paths[0]} if len(paths) == 1 else {"images": paths}
        row |= {name: column[i] for name, column in zip(_TAGS, tags, strict=True) if column[i]}
        yield orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
