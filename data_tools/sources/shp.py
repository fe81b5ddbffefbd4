"""SHP as released (stanfordnlp/SHP): 18 folders, one a forum, each with train, validation and test.json (JSON lines).

A row: post_id, domain, history (the post), human_ref_A, human_ref_B, labels (1: A is preferred, 0: B), score_A,
score_B, score_ratio, and more. Of a folder the files of the split `train` are read (348,718 rows). The category is the
domain. Scores that contradict the label are counted (`scores_reversed`).

Equal scores are dropped. Option `min_ratio` (1, 1.5, 2, 3): rows whose score_ratio is lower are dropped
(`low_ratio`), and above 1 those without one (`no_ratio`); the authors advise 2. One
post gives many pairs (ids are POST/A-B): cap it in a mixture.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source, unknown_layout
from data_tools.sources.rated import rating
from data_tools.sources.turns import pair_without_prompt

OPTIONS = {"min_ratio": ("1", "1.5", "2", "3")}


def read(row: dict[str, Any], min_ratio: float) -> RawPair | Excluded:
    id_, label = row.get("post_id"), row.get("labels")
    if row.get("history") is None or "human_ref_A" not in row or "human_ref_B" not in row or label is None:
        return unknown_layout(row, "history, human_ref_A, human_ref_B and labels")
    if label not in (0, 1) or isinstance(label, bool):
        return Excluded("bad_label", f"labels is {label!r}, not 0 or 1", id=id_)
    ratio = rating(row.get("score_ratio"))
    if min_ratio > 1 and ratio is None:
        return Excluded("no_ratio", f"score_ratio is {row.get('score_ratio')!r}"[:80], bad=False, id=id_)
    if ratio is not None and ratio < min_ratio:
        return Excluded("low_ratio", f"score_ratio is {ratio:g}", bad=False, id=id_)
    better, worse = ("A", "B") if label == 1 else ("B", "A")
    high, low = rating(row.get(f"score_{better}")), rating(row.get(f"score_{worse}"))
    if high is not None and high == low:
        return Excluded("tie", f"both have the score {high:g}", bad=False, id=id_)
    comments = row.get("c_root_id_A"), row.get("c_root_id_B")
    pair = RawPair(
        id_, row["history"], row.get(f"human_ref_{better}"), row.get(f"human_ref_{worse}"), (),
        category=str(row.get("domain") or ""),
        note="scores_reversed" if high is not None and low is not None and high < low else "",
        part="-".join(map(str, comments)) if all(comments) else "",
    )  # fmt: skip
    return pair_without_prompt(pair)


def source(min_ratio: str = "1") -> Source:
    return Source(
        "shp",
        columns=("history", "human_ref_A", "human_ref_B", "labels"),
        read=partial(read, min_ratio=float(min_ratio)),
        expected="the folder of SHP, or one of its train.json files",
        optional=("post_id", "domain", "score_A", "score_B", "score_ratio", "c_root_id_A", "c_root_id_B"),
        files="train*",
        several=True,
        options=(("min_ratio", min_ratio),),
    )


SOURCE = source()
