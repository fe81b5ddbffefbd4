"""R1-Reward-RL as released (yifanzhang114/R1-Reward-RL, parquet, 17,261 rows): prompts for a judge, and the verdict.

A row: question, message, answer, image. `message` is a JSON text of one user turn, whose text part is the judge's
prompt with the question and both responses after the marks [Question], [Response 1] and [Response 2]; its image part
names a path of the authors' disk. `answer` is a list of one text, "<answer>2</answer>" or a digit: the better response.
The prompt is taken apart at these marks; a row in which a mark is missing or repeated is refused (`unclear_turn`), as
is one whose message is not JSON (`message_not_json`).

`image` is, by its size, the image itself in base64 (a guess); a path is read below the images root. The message is
not kept: training code that looks answers up by it needs the released file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source, unknown_layout, without_image_tags
from data_tools.sources.turns import turns_of
from proxygrm.core.images.fields import images_in

_MARK = re.compile(r"(?m)^[ \t#*]*\[(Question|Response 1|Response 2)\][ \t*]*:[ \t*]*\n?")
_END = re.compile(r"\n[ \t#*]*\[?output format\b.*\Z", re.I | re.S)
_ORDER = ["Question", "Response 1", "Response 2"]
_VERDICT = re.compile(r"\s*(?:<answer>\s*([12])\s*</answer>|([12]))\s*")


def read(row: dict[str, Any]) -> RawPair | Excluded:
    if row.get("message") is None or row.get("answer") is None:
        return unknown_layout(row, "message and answer")
    try:
        prompt = _prompt(row["message"])
    except (ValueError, RecursionError) as error:
        return Excluded("message_not_json", f"message: {error}")
    if prompt is None:
        return unknown_layout(row, "message of one user turn with a text")
    answer = row["answer"]
    words = answer if isinstance(answer, list) else [answer]
    verdict = _VERDICT.fullmatch(str(words[0])) if len(words) == 1 else None
    if verdict is None:
        return Excluded("bad_label", f"answer is {str(answer)[:80]!r}, not 1 or 2")
    better = int(verdict.group(1) or verdict.group(2))
    marks = list(_MARK.finditer(prompt))
    if [mark.group(1) for mark in marks] != _ORDER:
        return Excluded("unclear_turn", f"marks: {', '.join(mark.group(1) for mark in marks[:8]) or 'none'}")
    ends = [marks[1].start(), marks[2].start(), len(prompt)]
    question, first, second = (prompt[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True))
    responses = first, _END.sub("", second).strip()
    images = images_in(row.get("image"))
    question, tags = without_image_tags(question, len(images))
    return RawPair(None, question, responses[better - 1], responses[2 - better], images, note=tags)


def _prompt(message: Any) -> str | None:
    """The text of the message's user turn. Raises ValueError for a text that is not JSON."""
    turns = json.loads(message) if isinstance(message, str) else message
    user = [
        turn.text for turn in turns_of([turns] if isinstance(turns, Mapping) else turns) or () if turn.role == "user"
    ]
    return user[0] if len(user) == 1 and isinstance(user[0], str) else None


SOURCE = Source(
    "r1-reward-rl",
    columns=("message", "answer"),
    read=read,
    expected="the parquet files of R1-Reward-RL",
    needs_image=True,
    optional=("image", "question"),
)
