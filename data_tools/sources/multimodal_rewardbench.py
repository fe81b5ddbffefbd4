"""Multimodal RewardBench as released (facebookresearch/multimodal_rewardbench; 5,211 rows, images by path).

A row: ID, Image, Text, Output1, Output2, Better ("Output1" or "Output2"), Category in {correctness, preference,
knowledge, reasoning, safety, vqa}. The images of 500 rows (Hateful Memes) must be downloaded separately; without
them `--missing-images drop --max-bad 0.1` keeps 4,711.

The category of a pair is the official one; two of them have official subsets, after a slash: safety/bias
(ID starts with "pairs"), safety/toxicity, reasoning/math (ID starts with "math"), reasoning/coding.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source
from proxygrm.core.images.fields import images_in
from proxygrm.evaluate.benchmarks.multimodal_rewardbench import split_of

_COLUMNS = ("ID", "Image", "Text", "Output1", "Output2", "Better", "Category")


def read(row: dict[str, Any]) -> RawPair | Excluded:
    better = row.get("Better")
    if better not in ("Output1", "Output2"):
        return Excluded("no_label", f"Better is {better!r}, not Output1 or Output2", id=row.get("ID"))
    worse = "Output2" if better == "Output1" else "Output1"
    category = split_of(str(row.get("ID")), str(row.get("Category") or ""))
    images = images_in(row.get("Image"))
    return RawPair(row.get("ID"), row.get("Text"), row.get(better), row.get(worse), images, category=category)


SOURCE = Source(
    "multimodal-rewardbench",
    columns=_COLUMNS,
    read=read,
    expected="Multimodal RewardBench's all_data.json, with --images-root for its images",
    benchmark=True,
    needs_image=True,
)
