"""MM-RLHF's training pairs as released (yifanzhang114/MM-RLHF): dpo_pairs.jsonl, about 120,000 rows.

A row: prompt, chosen, rejected, and `image` or `video`, a path below the folder of the release; perhaps id and is_tie.
The category is the first component of the path (long, short, mcq, safety, video). A `video` is a folder of frames,
of which 32 are used. Ties are dropped. The annotators' reasons (chosen_reason, rejected_reason) are not read: they tell
the label. The layout of data.jsonl, which has the ranked answers, is not known; its rows are refused.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import Excluded, Frames, ImageRef, RawPair, Source, unknown_layout, without_image_tags
from data_tools.sources.turns import pair_without_prompt
from proxygrm.core.images.fields import images_of

FRAMES = 32


def read(row: dict[str, Any]) -> RawPair | Excluded:
    id_, video = row.get("id"), row.get("video")
    if row.get("prompt") is None or not isinstance(row.get("chosen"), str) or not isinstance(row.get("rejected"), str):
        return unknown_layout(row, "texts in prompt, chosen and rejected")
    if str(row.get("is_tie")).strip().lower() in ("true", "1", "1.0", "yes"):
        return Excluded("tie", bad=False, id=id_)
    if video and not isinstance(video, str):
        return Excluded("bad_video", f"`video` is {type(video).__name__}, not a path", id=id_)
    images: tuple[ImageRef, ...] = (Frames(video, FRAMES),) if video else images_of(row)
    path = video or next((image for image in images if isinstance(image, str)), "")
    question, tags = without_image_tags(row["prompt"], len(images))
    pair = RawPair(id_, question, row["chosen"], row["rejected"], images, category=_category(path), note=tags)
    return pair_without_prompt(pair)


def _category(path: str) -> str:
    folder, slash, _ = path.removeprefix("./").lstrip("/").partition("/")
    return folder if slash else ""


SOURCE = Source(
    "mm-rlhf",
    columns=("prompt", "chosen", "rejected"),
    read=read,
    expected="MM-RLHF's dpo_pairs.jsonl beside its unpacked images, or with --images-root",
    needs_image=True,
    optional=("id", "image", "images", "video", "is_tie"),
    files="dpo_pairs*",
)
