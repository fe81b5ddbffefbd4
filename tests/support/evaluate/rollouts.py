"""Rollouts with rubrics, as files, for the tests of agreement."""

from __future__ import annotations

import json

SEEN = "<rubric>{}<justify>why</justify></rubric><eval>e</eval><answer>1</answer>"
LIMITS = ["--max-tokens", "64", "--max-model-len", "1024"]


def row(number, label=1, **more):
    texts = {"question": f"Q {number}?\n\"'ünï\u2028", "response_1": "Red.", "response_2": "Blue."}
    return {"id": f"p{number}", "label": str(label), **texts, "critique": SEEN.format(f"Names {number}"), **more}


def written(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in rows))
    return path
