"""Training rows for ms-swift: JSONL of {messages, images}, with absolute picture paths."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_tools.preference import PreferencePair
from proxygrm.critique import parse, rubric_for_proxy
from proxygrm.prompts import grm_prompt, proxy_prompt
from proxygrm.targets import proxy_answer


def grm_row(pair: PreferencePair, critique: str, pairs_dir: Path) -> dict[str, Any]:
    """The reward model's cold start: the instruction, and the teacher's critique as the answer."""
    prompt = grm_prompt(pair.question, pair.response_1, pair.response_2, images=len(pair.images))
    return _row(pair, prompt, critique.strip(), pairs_dir)


def proxy_row(pair: PreferencePair, critique: str, pairs_dir: Path) -> dict[str, Any]:
    """The proxy's training: the pair with the teacher's rubric, and a short thought with the verdict as the answer.

    Raises ValueError for a critique that has no rubric to show, no evaluation or no verdict.
    """
    rubric = rubric_for_proxy(critique)
    if rubric is None:
        raise ValueError(f"pair {pair.id!r}: the critique has no closed rubric")
    prompt = proxy_prompt(pair.question, pair.response_1, pair.response_2, rubric, images=len(pair.images))
    return _row(pair, prompt, proxy_answer(parse(critique)), pairs_dir)


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write the rows, whole or not at all; returns their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    count = 0
    try:
        with scratch.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return count


def _row(pair: PreferencePair, prompt: str, answer: str, pairs_dir: Path) -> dict[str, Any]:
    return {
        "id": pair.id,
        "messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}],
        "images": [str(path) for path in pair.image_paths(pairs_dir)],
    }
