"""Texts that models are trained to write."""

from __future__ import annotations

import re

from proxygrm.critique.contract import Critique

MAX_THINK_CHARS = 300
_SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"”]))\s+(?=[\"“(]?[A-Z])")


def proxy_answer(critique: Critique) -> str:
    """The proxy's target answer to this critique's rubric: `<think>...</think><answer>d</answer>`.

    The thought is the evaluation on one line, or as many of its last sentences as fit into MAX_THINK_CHARS.
    Raises ValueError for a critique without evaluation or verdict.
    """
    if not critique.evaluation or critique.verdict is None:
        raise ValueError("a proxy answer needs a critique with evaluation and verdict")
    sentences = [
        " ".join(sentence.split()) for sentence in _SENTENCE_END.split(critique.evaluation) if sentence.strip()
    ]
    while len(sentences) > 1 and len(" ".join(sentences)) > MAX_THINK_CHARS:
        sentences.pop(0)
    thought = " ".join(sentences)
    if len(thought) > MAX_THINK_CHARS:
        thought = thought[:MAX_THINK_CHARS].rsplit(" ", 1)[0] + " ..."
    return f"<think>{_plain(thought)}</think><answer>{critique.verdict}</answer>"


def _plain(text: str) -> str:
    """The text without our tags."""
    return re.sub(r"</?(?:think|answer|rubric|eval|justify)>", "", text)
