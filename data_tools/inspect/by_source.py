"""What each source of a file contributes: rows, labels, lengths, image sizes, and how many of its pairs are repeats."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.ingest.part import key_of
from data_tools.inspect.inspected_rows import InspectedRow
from data_tools.inspect.quantiles import half_octaves, quantiles

MEASURES = ("question", "better response", "worse response", "image width", "image height")
"""Texts in characters, images in pixels."""
COLUMNS = ("rows", "share", "label 1", "better longer", "question", "better", "worse", "width", "height", "images",
           "text only", "repeats", "in others", "problems")  # fmt: skip
"""Titles of a table of sources: `cells`. Lengths are medians."""


@dataclass
class SourceCounts:
    """Memory: about 50 bytes per row."""

    rows: int = 0
    with_problems: int = 0
    text_only: int = 0
    images: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    better_longer: int = 0  # pairs whose better response has more characters
    worse_longer: int = 0
    lengths: dict[str, array] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    keys: array = field(default_factory=lambda: array("Q"))  # of the pairs

    def add(self, row: InspectedRow, sizes: list[tuple[int, int]]) -> None:
        """sizes: width and height of each readable image."""
        self.rows += 1
        self.with_problems += bool(row.problems)
        self.text_only += not row.images
        self.images += len(row.images)
        self.labels[str(row.label) if row.label else "-"] += 1
        for width, height in sizes:
            self.lengths["image width"].append(width)
            self.lengths["image height"].append(height)
        if "question" in row.texts:
            self.lengths["question"].append(len(row.texts["question"]))
        pair = _pair(row)
        if pair is not None:
            better, worse = pair
            self.lengths["better response"].append(len(better))
            self.lengths["worse response"].append(len(worse))
            self.better_longer += len(better) > len(worse)
            self.worse_longer += len(worse) > len(better)
            images = [image.name if isinstance(image, Path) else str(hash(image)) for image in row.images]
            texts = (row.texts.get("question", ""), *sorted(pair), *images)
            self.keys.append(key_of(*(text.encode("utf-8", "replace").decode() for text in texts)))


def _pair(row: InspectedRow) -> tuple[str, str] | None:
    """(better, worse) response."""
    if "chosen" in row.texts and "rejected" in row.texts:
        return row.texts["chosen"], row.texts["rejected"]
    if row.label in (1, 2) and "response_1" in row.texts and "response_2" in row.texts:
        return row.texts[f"response_{row.label}"], row.texts[f"response_{3 - row.label}"]
    return None


def summaries(sources: dict[str, SourceCounts]) -> dict[str, Any]:
    """The counts of each source as JSON, the largest first. A repeat is a pair with the texts (in either order of the
    responses) and images of an earlier one."""
    keys = {name: np.frombuffer(counts.keys, dtype=np.uint64) for name, counts in sources.items()}
    distinct = {name: np.unique(own) for name, own in keys.items()}
    everywhere, found = np.unique(np.concatenate(list(distinct.values())), return_counts=True)
    shared = everywhere[found > 1]
    rows = sum(counts.rows for counts in sources.values())
    return {
        name: {
            "rows": counts.rows,
            "share": counts.rows / rows,
            "with_problems": counts.with_problems,
            "labels": dict(sorted(counts.labels.items())),
            "better_longer": counts.better_longer,
            "worse_longer": counts.worse_longer,
            "text_only": counts.text_only,
            "images": counts.images,
            "repeats": len(keys[name]) - len(distinct[name]),
            "in_other_sources": int(np.isin(keys[name], shared).sum()),
            "quantiles": {measure: quantiles(counts.lengths[measure]) for measure in _measured(counts)},
            "half_octaves": {measure: half_octaves(counts.lengths[measure]) for measure in _measured(counts)},
        }
        for name, counts in sorted(sources.items(), key=lambda item: (-item[1].rows, item[0]))
    }


def _measured(counts: SourceCounts) -> list[str]:
    return [measure for measure in MEASURES if counts.lengths.get(measure)]


def cells(source: dict[str, Any]) -> list[str]:
    """A source's row of the table with the titles COLUMNS."""
    first, second = source["labels"].get("1", 0), source["labels"].get("2", 0)
    longer = source["better_longer"] + source["worse_longer"]
    medians = (source["quantiles"].get(measure, {}).get("0.5") for measure in MEASURES)
    return [
        f"{source['rows']:,}",
        f"{source['share']:.1%}",
        f"{first / (first + second):.1%}" if first + second else "",
        f"{source['better_longer'] / longer:.1%}" if longer else "",
        *("" if median is None else f"{median:,}" for median in medians),
        f"{source['images']:,}",
        f"{source['text_only']:,}",
        f"{source['repeats']:,}",
        f"{source['in_other_sources']:,}",
        f"{source['with_problems']:,}",
    ]
