"""UltraFeedback as released (openbmb/UltraFeedback, about 64,000 prompts with four responses each), text only.

A row: source, instruction, models, completions [{model, response, annotations, overall_score, fine-grained_score}].
annotations: instruction_following, honesty, truthfulness, helpfulness, each {Rating (a text, perhaps "N/A")} or a list
of one such object.

| option | value   | meaning                                                                         |
|--------|---------|---------------------------------------------------------------------------------|
| pairs  | all     | every two responses with different scores, up to six a prompt ("Ultra-All")      |
|        | gap     | the best and the worst of each prompt only ("Ultra-Hard")                        |
| score  | overall | overall_score                                                                   |
|        | fine    | the mean of the four ratings                                                    |

Copies from before 29 December 2023 have 2,628 responses with overall_score 10 that are poor. As in the later release,
such a response counts 1 if its ratings have a mean of at most 2; with a mean of up to 4 it has no score, because the
later release rated it again. Each response was given to another system prompt, which a pair does not show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from data_tools.sources import rated
from data_tools.sources.base import Excluded, RawPair, Source, unknown_layout
from data_tools.sources.turns import pair_without_prompt

OPTIONS = {"pairs": rated.PAIRS, "score": ("overall", "fine")}


def overall(completion: Mapping[str, Any]) -> float | None:
    score, ratings = rated.rating(completion.get("overall_score")), fine(completion)
    if score != 10 or ratings is None or ratings > 4:
        return score
    return 1.0 if ratings <= 2 else None


def fine(completion: Mapping[str, Any]) -> float | None:
    released = rated.rating(completion.get("fine-grained_score"))
    if released is not None:
        return released
    annotations = completion.get("annotations")
    aspects = annotations.values() if isinstance(annotations, Mapping) else ()
    return rated.mean([rated.rating(_rating(aspect)) for aspect in aspects if aspect is not None])


def _rating(aspect: Any) -> Any:
    aspect = aspect[0] if isinstance(aspect, list) and len(aspect) == 1 else aspect
    return aspect.get("Rating") if isinstance(aspect, Mapping) else None


def expand(row: dict[str, Any], pairs: str, score: str) -> Sequence[dict[str, Any]]:
    return rated.expanded(row, overall if score == "overall" else fine, pairs)


def read(row: dict[str, Any]) -> RawPair | Excluded:
    if row.get("instruction") is None or row.get("completions") is None:
        return unknown_layout(row, "instruction and completions")
    pair = rated.pair_of(row)
    if isinstance(pair, Excluded):
        return pair
    chosen, rejected, name = pair
    category = str(row.get("source") or "")
    return pair_without_prompt(RawPair(None, row["instruction"], chosen, rejected, (), category=category, part=name))


def source(pairs: str = "all", score: str = "overall") -> Source:
    return Source(
        "ultrafeedback",
        columns=("instruction", "completions"),
        read=read,
        expand=partial(expand, pairs=pairs, score=score),
        expected="UltraFeedback's files with four responses a prompt (JSONL or parquet)",
        license="mit",
        optional=("source",),
        options=(("pairs", pairs), ("score", score)),
    )


SOURCE = source()
