"""MM-RLHF-RewardBench as released (mm_reward_bench.jsonl; 170 pairs of 46 ids, pictures and videos by path).

A row: id, image or video, prompt, chosen, rejected, chosen_reason, rejected_reason. The category is the first
component of the relative path (mcq, long, short, safety, video), and nothing else in it; a row that `data convert
bench` wrote says its `category` instead. A row without one is no row of this benchmark. Rows of one id make a `group`:
acc+ counts the ids with every pair right. A video is judged from 32 frames at equal distances, read from a folder of
pictures (`video/x/` for `video/x.mp4`), because judges take pictures.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import Found, Frames, Left, Picture, Source
from proxygrm.core.images.fields import images_of
from proxygrm.evaluate.benchmarks.mm_rlhf_rewardbench import CATEGORIES, category_of

FRAMES = 32


def read(row: dict[str, Any]) -> Found | Left:
    id_, video = row.get("id"), row.get("video")
    if video and not isinstance(video, str):
        return Left("bad_video", f"`video` is {type(video).__name__}, not a path", id=id_)
    pictures: tuple[Picture, ...] = (Frames(video, FRAMES),) if video else images_of(row)
    category = row.get("category")
    if not pictures and category not in CATEGORIES:
        return Left("missing_picture", "neither image nor video, whose folder would say the category", id=id_)
    path = None if not pictures else pictures[0].path if isinstance(pictures[0], Frames) else pictures[0]
    if category not in CATEGORIES:
        category = category_of(path) if isinstance(path, str) else None
    if category is None:
        where = path if isinstance(path, str) else "a picture without a path"
        return Left("no_category", f"{where} lies in no folder called {', '.join(CATEGORIES)}", id=id_)
    return Found(
        id_, row.get("prompt"), row.get("chosen"), row.get("rejected"), pictures,
        category=category, group="" if id_ is None else str(id_),
    )  # fmt: skip


SOURCE = Source(
    "mm-rlhf-rewardbench",
    columns=("id", "prompt", "chosen", "rejected"),
    read=read,
    give="mm_reward_bench.jsonl, with --images-root when its pictures lie elsewhere",
    benchmark=True,
    needs_picture=True,
    optional=("image", "images", "video", "category"),
)
