"""MM-RLHF-RewardBench as released (mm_reward_bench.jsonl; 170 pairs of 46 ids, images and videos by path).

A row: id, image or video, prompt, chosen, rejected, chosen_reason, rejected_reason. The category is the first
component of the relative path (mcq, long, short, safety, video); a row written by `data convert bench` has its
`category` instead. A row without a category does not belong to this benchmark. Rows with the same id are a `group`:
acc+ counts the ids whose pairs are all judged right. A video is judged from 32 equally spaced frames, read from a
folder of images (`video/x/` for `video/x.mp4`), because judges take images.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import Excluded, Frames, ImageRef, RawPair, Source
from proxygrm.core.images.fields import images_of
from proxygrm.evaluate.benchmarks.mm_rlhf_rewardbench import CATEGORIES, category_of

FRAMES = 32


def read(row: dict[str, Any]) -> RawPair | Excluded:
    id_, video = row.get("id"), row.get("video")
    if video and not isinstance(video, str):
        return Excluded("bad_video", f"`video` is {type(video).__name__}, not a path", id=id_)
    images: tuple[ImageRef, ...] = (Frames(video, FRAMES),) if video else images_of(row)
    category = row.get("category")
    if not images and category not in CATEGORIES:
        return Excluded("missing_image", "neither an image nor a video, whose folder is the category", id=id_)
    path = None if not images else images[0].path if isinstance(images[0], Frames) else images[0]
    if category not in CATEGORIES:
        category = category_of(path) if isinstance(path, str) else None
    if category is None:
        where = path if isinstance(path, str) else "an image without a path"
        return Excluded("no_category", f"{where} is in none of the folders {', '.join(CATEGORIES)}", id=id_)
    return RawPair(
        id_, row.get("prompt"), row.get("chosen"), row.get("rejected"), images,
        category=category, group="" if id_ is None else str(id_),
    )  # fmt: skip


SOURCE = Source(
    "mm-rlhf-rewardbench",
    columns=("id", "prompt", "chosen", "rejected"),
    read=read,
    expected="mm_reward_bench.jsonl, with --images-root when its images lie elsewhere",
    benchmark=True,
    needs_image=True,
    optional=("image", "images", "video", "category"),
)
