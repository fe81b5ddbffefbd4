"""Pairs -> benchmark JSONL, the layout that R1-Reward's and upstream's scripts read: {id, prompt, chosen, rejected,
image}. Several images are in `images`, a list. Source, category, group and licence are added where known.

Rows of a benchmark get the id of the release again, repeated ones too: scripts derive categories and acc+ from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from proxygrm.evaluate.benchmarks import BENCHMARKS
from proxygrm.evaluate.rows.answers import bare_id

_BENCHMARKS = {name.replace("-", "_") for name in BENCHMARKS}
_TAGS = ("source", "license", "category", "group")


def bench_lines(pairs: pa.Table, folder: Path) -> Iterator[bytes]:
    """Lines of the benchmark JSONL. folder: that of the output; image paths below it are written relative to it."""
    first = pc.equal(pairs["label"], 1)
    chosen = pc.if_else(first, pairs["response_1"], pairs["response_2"]).to_pylist()
    rejected = pc.if_else(first, pairs["response_2"], pairs["response_1"]).to_pylist()
    ids, prompts, images = (pairs[name].to_pylist() for name in ("id", "question", "images"))
    tags = [pairs[name].to_pylist() for name in _TAGS]
    sources = tags[0]
    ids = [bare_id(i, source) if source in _BENCHMARKS else i for i, source in zip(ids, sources, strict=True)]
    prefix = f"{folder.resolve()}/"
    for i, paths in enumerate(images):
        row = {"id": ids[i], "prompt": prompts[i], "chosen": chosen[i], "rejected": rejected[i]}
        paths = [path.removeprefix(prefix) for path in paths]
        if paths:
            row |= {"image": paths[0]} if len(paths) == 1 else {"images": paths}
        row |= {name: column[i] for name, column in zip(_TAGS, tags, strict=True) if column[i]}
        yield orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
