"""VLFeedback as released (MMInstruction/VLFeedback, 80,258 rows): vlfeedback_80k.jsonl, or its parquet conversion.

A row: id, prompt, models, completions [{model, response, annotations}], img_path (the conversion may have `image`).
annotations: Helpfulness, Ethical Considerations and Visual Faithfulness, each {Rating (a text), Rationale}. As its
authors build them, pairs are all two of the (usually four) responses, a response's score is the mean of the ratings
that it has, and equal scores are dropped. One aspect of three is safety, so a harmless empty answer may be preferred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from data_tools.sources import rated
from data_tools.sources.base import Excluded, RawPair, Source, unknown_layout
from data_tools.sources.turns import pair_without_prompt
from proxygrm.core.images.fields import images_in

OPTIONS = {"pairs": rated.PAIRS}


def score(completion: Mapping[str, Any]) -> float | None:
    annotations = completion.get("annotations")
    aspects = annotations.values() if isinstance(annotations, Mapping) else ()
    return rated.mean([rated.rating(aspect.get("Rating")) for aspect in aspects if isinstance(aspect, Mapping)])


def expand(row: dict[str, Any], pairs: str) -> Sequence[dict[str, Any]]:
    return rated.expanded(row, score, pairs)


def read(row: dict[str, Any]) -> RawPair | Excluded:
    if row.get("completions") is None or row.get("prompt") is None:
        return unknown_layout(row, "prompt and completions")
    pair = rated.pair_of(row)
    if isinstance(pair, Excluded):
        return pair._replace(id=row.get("id"))
    chosen, rejected, name = pair
    images = images_in(row.get("image")) or images_in(row.get("img_path"))  # the conversion may keep the path as well
    return pair_without_prompt(RawPair(row.get("id"), row.get("prompt"), chosen, rejected, images, part=name))


def source(pairs: str = "all") -> Source:
    return Source(
        "vlfeedback",
        columns=("prompt", "completions"),
        read=read,
        expand=partial(expand, pairs=pairs),
        expected="VLFeedback's vlfeedback_80k.jsonl, with --images-root for its images, or its parquet conversion",
        needs_image=True,
        optional=("id", "img_path", "image"),
        files="vlfeedback_80k*|*.parquet",
        several=True,
        options=(("pairs", pairs),),
    )


SOURCE = source()
