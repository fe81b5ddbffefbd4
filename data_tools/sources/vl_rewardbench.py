"""VL-RewardBench, as released or in the JSONL layout of other repositories.

* parquet (MMInstruction/VL-RewardBench, 1,250 rows; a later revision 1,247): id, query, response[2], image {bytes},
  human_ranking[2] (0 is the better one), and more;
* JSONL: {id, prompt, chosen, rejected, image (path) or images, ...}.

Only 1,225 ids are distinct: repeated ones get a number. The category comes from the id, as in the official script.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source
from proxygrm.core.images.fields import images_of
from proxygrm.evaluate.benchmarks.mm_rlhf_rewardbench import CATEGORIES as MM_RLHF_CATEGORIES
from proxygrm.evaluate.benchmarks.rewardbench import SIZES as REWARDBENCH_SUBSETS
from proxygrm.evaluate.benchmarks.vl_rewardbench import category_of

_MM_RLHF_FOLDERS = tuple(f"{category}/" for category in MM_RLHF_CATEGORIES)


def read(row: dict[str, Any]) -> RawPair | Excluded:
    id_ = row.get("id")
    category = category_of(str(id_))
    if row.get("video") or _of_mm_rlhf(row.get("image")):
        return Excluded("of_mm_rlhf_rewardbench", str(row.get("video") or row.get("image")), id=id_)
    if str(row.get("subset")) in REWARDBENCH_SUBSETS:  # whose JSONL differs by it and by the images only
        return Excluded("of_rewardbench", f"subset {row['subset']}", id=id_)
    if "response" not in row:
        images = images_of(row)
        return RawPair(id_, row.get("prompt"), row.get("chosen"), row.get("rejected"), images, category=category)
    responses, ranking = row["response"], row.get("human_ranking")
    if not isinstance(responses, list) or len(responses) != 2:
        return Excluded("not_two_responses", repr(responses)[:100], id=id_)
    if not isinstance(ranking, list) or sorted(ranking, key=str) != [0, 1]:
        return Excluded("no_label", f"human_ranking is {ranking!r}, not [0, 1] or [1, 0]", id=id_)
    best = ranking.index(0)
    images = images_of(row)
    return RawPair(id_, row.get("query"), responses[best], responses[1 - best], images, category=category)


def _of_mm_rlhf(image: Any) -> bool:
    """Whether a row is of MM-RLHF-RewardBench: both JSONLs have the same fields, but other image folders."""
    return isinstance(image, str) and image.removeprefix("./").startswith(_MM_RLHF_FOLDERS)


SOURCE = Source(
    "vl-rewardbench",
    columns=(("id", "query", "response", "image", "human_ranking"), ("id", "prompt", "chosen", "rejected", "image")),
    read=read,
    expected="VL-RewardBench's parquet, or a JSONL of {id, prompt, chosen, rejected, image}",
    benchmark=True,
    needs_image=True,
)
