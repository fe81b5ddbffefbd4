"""Judging held-out pairs: a model's critiques and verdicts in both orders, and whether its rubrics transfer.

Importing this package loads neither torch nor vLLM; the functions that run a model do.
"""

from __future__ import annotations

from proxygrm.evaluate.judge import evaluate_models, judge_pairs, judge_rubrics
from proxygrm.evaluate.metrics import summarise, wilson
from proxygrm.evaluate.pairs import EvalPair, load_pairs
from proxygrm.evaluate.settings import EvaluateSettings

__all__ = [
    "EvalPair",
    "EvaluateSettings",
    "evaluate_models",
    "judge_pairs",
    "judge_rubrics",
    "load_pairs",
    "summarise",
    "wilson",
]
