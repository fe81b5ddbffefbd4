"""Draws small stand-ins for three benchmarks in the layouts of their releases.

The demo reads, judges and scores them as it would the real ones. Their ids say `demo`, and no revision has their size,
so every table marks them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from proxygrm.core.files.whole_file import whole_file
from proxygrm.demo.scenes import Combination, draw, separate
from proxygrm.evaluate.benchmarks.mm_rlhf_rewardbench import CATEGORIES as MM_RLHF_CATEGORIES

FRAMES = 3
"""Of a drawn video."""


@dataclass(frozen=True)
class Drawn:
    """One pair: its number, the facts, whether the better response comes first, and a source of further images."""

    number: int
    combination: Combination
    better_first: bool
    rng: random.Random

    @property
    def better(self) -> str:
        return self.combination.response(self.combination.right)

    @property
    def worse(self) -> str:
        return self.combination.response(self.combination.wrong)

    @property
    def in_order(self) -> list[str]:
        return [self.better, self.worse] if self.better_first else [self.worse, self.better]

    def image(self) -> bytes:
        return draw(self.combination, self.rng)


def write_demo_benchmarks(out: Path, pairs: int, seed: int, kind: str = "colour") -> None:
    """Write `out/NAME/` of each, with so many pairs of facts that the demo's training pairs do not have."""
    for name, write in WRITERS.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, _drawn(pairs, random.Random(f"{name} {seed}"), kind, seed))


def _drawn(pairs: int, rng: random.Random, kind: str, seed: int) -> Iterator[Drawn]:
    held_out = separate(kind, seed)[1]
    for number, combination in zip(range(pairs), cycle(held_out)):
        yield Drawn(number, combination, rng.random() < 0.5, rng)


def _vl_rewardbench(folder: Path, pairs: Iterator[Drawn]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    prefixes = ("wildvision-battle", "RLAIF-V", "RLHF-V", "mathverse")
    rows = [
        {
            "id": f"{prefixes[pair.number % len(prefixes)]}-demo-{pair.number}",
            "query": pair.combination.question,
            "response": pair.in_order,
            "image": {"bytes": pair.image(), "path": f"{pair.number}.png"},
            "human_ranking": [0, 1] if pair.better_first else [1, 0],
        }
        for pair in pairs
    ]
    text, image = pa.string(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [("id", text), ("query", text), ("response", pa.list_(text)), ("image", image),
         ("human_ranking", pa.list_(pa.int64()))]
    )  # fmt: skip
    (folder / "data").mkdir(exist_ok=True)
    with whole_file(folder / "data" / "test-00000-of-00001.parquet") as scratch:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), scratch)


def _multimodal_rewardbench(folder: Path, pairs: Iterator[Drawn]) -> None:
    kinds = (("correctness", "correctness"), ("preference", "preference"), ("knowledge", "knowledge"),
             ("math", "reasoning"), ("coding", "reasoning"), ("pairs", "safety"), ("vqa", "vqa"))  # fmt: skip
    rows = []
    for pair in pairs:
        start, category = kinds[pair.number % len(kinds)]
        image = Path("images", "demo", f"{pair.number}.png")
        _write_image(folder / image, pair.image())
        output_1, output_2 = pair.in_order
        rows.append({
            "ID": f"{start}-demo-{pair.number}", "Image": str(image), "Text": pair.combination.question,
            "Output1": output_1, "Output2": output_2, "Better": "Output1" if pair.better_first else "Output2",
            "Category": category,
        })  # fmt: skip
    with whole_file(folder / "all_data.json") as scratch:
        scratch.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _mm_rlhf_rewardbench(folder: Path, pairs: Iterator[Drawn]) -> None:
    """Two pairs an id, of one category."""
    lines = []
    for pair in pairs:
        number = pair.number // 2
        category = MM_RLHF_CATEGORIES[number % len(MM_RLHF_CATEGORIES)]
        row: dict[str, Any] = {
            "id": f"demo-{number}", "prompt": pair.combination.question, "chosen": pair.better, "rejected": pair.worse,
            "chosen_reason": "", "rejected_reason": "",
        }  # fmt: skip
        if category == "video":
            for frame in range(FRAMES):
                _write_image(folder / category / str(pair.number) / f"{frame}.png", pair.image())
            row["video"] = f"{category}/{pair.number}.mp4"
        else:
            row["image"] = f"{category}/{pair.number}.png"
            _write_image(folder / row["image"], pair.image())
        lines.append(json.dumps(row) + "\n")
    with whole_file(folder / "mm_reward_bench.jsonl") as scratch:
        scratch.write_text("".join(lines), encoding="utf-8")


def _write_image(path: Path, image: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image)


WRITERS: dict[str, Callable[[Path, Iterator[Drawn]], None]] = {
    "vl_rewardbench": _vl_rewardbench,
    "multimodal_rewardbench": _multimodal_rewardbench,
    "mm_rlhf_rewardbench": _mm_rlhf_rewardbench,
}
