"""The best candidate of each prompt as training data: rejection sampling by a reward model.

A prompt with one candidate, or whose candidates all tie, has no chosen one: it is left out and counted. Of several that
share the first rank, the first in the file is taken.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import object_rows
from proxygrm.core.files.whole_file import whole_file
from proxygrm.core.unicode_text import is_unicode
from proxygrm.critique.prompts import IMAGE_TAG, inert
from proxygrm.critique.prompts.process import policy_prompt
from proxygrm.evaluate.best_of_n.ranking import Ranked, rank
from proxygrm.evaluate.best_of_n.solutions import present_responses
from proxygrm.evaluate.rows.pairs import image_files, image_names
from proxygrm.process.policy_json import FINAL, STEPS


class _LeftOut(Exception):
    """The prompt gives no row; its text is the cause, a word."""


def write_chosen(
    candidates: Path, ranked: Sequence[Ranked], out: Path, against_reference: bool = False
) -> Counter[str]:
    """Write `out`, rows for ms-swift in the order of the prompts; returns {"chosen": rows, "tied": of these, those that
    shared the first rank, cause: prompts left out}. `ranked`: of all rows of the file, in their order.

    UserError when no prompt has a chosen candidate; nothing is written.
    """
    counts = Counter({"chosen": 0, "tied": 0})

    def lines() -> Iterator[str]:
        for (_, row), own in zip(object_rows(candidates), ranked, strict=True):
            try:
                best = _best(own, against_reference)
                chosen = json.dumps(_row(row, own.prompt.id, best[0], candidates.parent), ensure_ascii=False)
                if not is_unicode(chosen):
                    raise _LeftOut("not_unicode")
                yield chosen + "\n"
            except _LeftOut as cause:
                counts[str(cause)] += 1
            else:
                counts["chosen"] += 1
                counts["tied"] += len(best) > 1

    with whole_file(out) as scratch:
        with scratch.open("w", encoding="utf-8") as file:
            file.writelines(lines())
        if not counts["chosen"]:
            causes = ", ".join(f"{cause} {count:,}" for cause, count in counts.items() if count)
            raise UserError(
                f"{candidates}: no prompt has a chosen candidate ({causes})",
                code="eval.nothing-chosen", path=candidates, counts=dict(counts),
            )  # fmt: skip
    return counts


def _best(ranked: Ranked, against_reference: bool) -> list[int]:
    """The candidates of the first rank."""
    count = ranked.prompt.count
    if count < 2:
        raise _LeftOut("one_candidate")
    best = [each["candidate"] for each in rank(ranked, against_reference) if each["rank"] == 1]
    if len(best) == count:
        raise _LeftOut("all_tied")
    return best


def _row(row: Mapping[str, Any], row_id: str, index: int, folder: Path) -> dict[str, Any]:
    """Raises _LeftOut."""
    question = row.get("question", row.get("prompt"))
    if not isinstance(question, str) or not question.strip():
        raise _LeftOut("no_question")
    try:
        images = image_files(image_names(row), folder)
    except ValueError:
        raise _LeftOut("bad_images") from None
    if not all(image.is_file() for image in images):
        raise _LeftOut("missing_image")
    asked, answer = _solution(row, question, index) if "candidates" not in row else _text(row, question, index)
    messages = [
        {"role": "user", "content": IMAGE_TAG * len(images) + asked},
        {"role": "assistant", "content": inert(answer, contract=False)},
    ]
    return {"id": row_id, "messages": messages, "images": [str(image) for image in images]}


def _text(row: Mapping[str, Any], question: str, index: int) -> tuple[str, str]:
    candidate = row["candidates"][index]
    text = candidate.get("response") if isinstance(candidate, dict) else candidate
    if not isinstance(text, str) or not text.strip():
        raise _LeftOut("empty")
    return inert(question, contract=False), text


def _solution(row: Mapping[str, Any], question: str, index: int) -> tuple[str, str]:
    """A solution in steps, asked for and written as `process sample` does."""
    response = present_responses(dict(row))[index]
    if not isinstance(response, dict) or not response.get(STEPS):
        raise _LeftOut("empty")
    return policy_prompt(question), json.dumps(
        {name: response.get(name) for name in (STEPS, FINAL)}, ensure_ascii=False
    )
