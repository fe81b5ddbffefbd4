"""Result files of other suites, written in the layouts of their code."""

from __future__ import annotations

import json

from support.evaluate.answers import VL_IDS

EVEN, ODD = ("good one", "bad one!"), ("good one", "bad one")
"""Responses whose lengths decide the order: as released, exchanged."""


def vl_pair(number, id_=None, responses=EVEN, better=0):
    """A released row of VL-RewardBench, without its image; texts differ by row, sums of lengths do not."""
    texts = [f"{text} {number:05d}" for text in responses]
    ranking = [0, 1] if better == 0 else [1, 0]
    return {"id": id_ or f"mmmu_{number}", "query": f"q{number}?", "response": texts, "human_ranking": ranking}


def shown_label(pair):
    """1 or 2: where both suites show the better response."""
    exchanged = sum(map(len, pair["response"])) % 2 == 1
    return 2 if (pair["human_ranking"] == [1, 0]) != exchanged else 1


def judged_text(pair, right):
    label = shown_label(pair)
    return f"**Overall Judgment:** Answer {label if right else 3 - label} is better."


def lmms_row(number, pair, right, with_doc=True, **changes):
    row = {
        "doc_id": number, "target": str(pair["human_ranking"]), "filtered_resps": [judged_text(pair, right)],
        "doc_hash": "0", "input": f"Answer 1: {pair['response'][0]} Answer 2: {pair['response'][1]}",
        "vlreward_score": {"question_id": pair["id"], "category": "x", "score": float(right)},
    }  # fmt: skip
    return row | ({"doc": pair} if with_doc else {}) | changes


def kit_row(number, pair, right, **changes):
    return {
        "index": number, "question": pair["query"], "response": str(pair["response"]),
        "answer": str(pair["human_ranking"]), "category": "x", "prediction": judged_text(pair, right),
        "human_ranking": str(pair["human_ranking"]), "score": float(right),
    } | changes  # fmt: skip


def vl_release():
    """All rows, of both orders; the five that have the second response better are among them."""
    return [vl_pair(n, id_, EVEN if n % 3 else ODD, better=int(n % 250 == 249)) for n, id_ in enumerate(VL_IDS)]


def pairs_file(path, pairs):
    """The same pairs as this suite reads them."""
    rows = []
    for pair in pairs:
        better = pair["human_ranking"].index(0)
        chosen, rejected = pair["response"][better], pair["response"][1 - better]
        rows.append({"id": pair["id"], "question": pair["query"], "chosen": chosen, "rejected": rejected})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


CASES = [vl_pair(0, responses=EVEN), vl_pair(1, responses=ODD), vl_pair(2, responses=EVEN, better=1),
         vl_pair(3, responses=ODD, better=1)]  # fmt: skip
"""Each order with each response better."""
