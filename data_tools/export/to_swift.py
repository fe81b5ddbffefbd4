"""Training rows for ms-swift: JSONL of {id, messages, images}, with absolute image paths; for preferences with
`rejected_response` too.

The number of pixels of an image is limited by ms-swift's MAX_PIXELS when it loads the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from data_tools.export.prompt_columns import clean_texts, grm_prompts, image_tags, proxy_prompts, r1_prompts
from data_tools.rows.arrays import single_array
from proxygrm.core.files.whole_file import whole_file
from proxygrm.critique import think_answer
from proxygrm.critique.contract import parse, rubric_for_proxy
from proxygrm.critique.prompts import inert
from proxygrm.critique.targets import proxy_answer


def grm_lines(pairs: pa.Table, critiques: Sequence[str]) -> Iterator[bytes]:
    """Rows for the reward model's cold start: the instruction, and the teacher's critique as the answer."""
    question, response_1, response_2, counts = _texts(pairs)
    prompts = grm_prompts(question, response_1, response_2, counts)
    return _lines(pairs, prompts, [_answer(critique.strip()) for critique in critiques])


def judgement_lines(pairs: pa.Table, judgements: Sequence[str]) -> Iterator[bytes]:
    """The same by R1-Reward's contract: its instruction, and the teacher's judgement without what surrounds it."""
    prompts = r1_prompts(*_texts(pairs))
    return _lines(pairs, prompts, [_answer(think_answer.parse(text).text) for text in judgements])


def proxy_lines(pairs: pa.Table, critiques: Sequence[str]) -> Iterator[bytes]:
    """Rows for training the proxy: the pair with the teacher's rubric, and a short thought with the verdict.

    Raises ValueError for a critique without a rubric, an evaluation or a verdict.
    """
    question, response_1, response_2, counts = _texts(pairs)
    prompts = proxy_prompts(question, response_1, response_2, pa.array(rubrics_of(pairs, critiques)), counts)
    return _lines(pairs, prompts, [_answer(proxy_answer(parse(critique))) for critique in critiques])


def preference_lines(pairs: pa.Table, critiques: Sequence[str] = ()) -> Iterator[bytes]:
    """Rows for a scalar reward model: the question, the better response as the answer, and the worse one. critiques:
    not used.

    The texts are those of the pair with control tokens and image tags defused, as the scorer shows them
    (`proxygrm.scalar.conversation`).
    """
    first = pc.equal(pairs["label"], 1)
    chosen = pc.if_else(first, pairs["response_1"], pairs["response_2"])
    rejected = pc.if_else(first, pairs["response_2"], pairs["response_1"])
    columns = (pairs["question"], chosen, rejected)
    question, chosen, rejected = (clean_texts(single_array(column), contract=False) for column in columns)
    prompts = pc.binary_join_element_wise(image_tags(_texts(pairs)[3]), question, "")
    yield from _lines(pairs, prompts, chosen.to_pylist(), rejected.to_pylist())


def rubrics_of(pairs: pa.Table, critiques: Sequence[str]) -> list[str]:
    """The rubrics as the proxy sees them. Raises ValueError, naming the pair, for a critique without one."""
    rubrics = []
    for pair_id, critique in zip(pairs["id"].to_pylist(), critiques, strict=True):
        rubric = rubric_for_proxy(critique)
        if rubric is None:
            raise ValueError(f"pair {pair_id!r}: the critique has no closed rubric")
        rubrics.append(rubric)
    return rubrics


LINES = {
    "swift-grm": grm_lines,
    "swift-proxy": proxy_lines,
    "swift-r1": judgement_lines,
    "swift-rm": preference_lines,
}
"""By the name of the format."""


def write_jsonl(path: Path, lines: Iterable[bytes]) -> int:
    """Write the lines (with their line ends) atomically; returns their number."""
    count = 0
    with whole_file(path) as scratch, scratch.open("wb") as file:
        for line in lines:
            file.write(line)
            count += 1
    return count


def _answer(text: str) -> str:
    """The text with tags defused: for each `<image>` that a teacher quotes, ms-swift would expect one more image."""
    return inert(text, contract=False)


def _texts(pairs: pa.Table) -> list[pa.Array]:
    columns = [single_array(pairs[name]) for name in ("question", "response_1", "response_2", "images")]
    return [*columns[:3], pc.list_value_length(columns[3])]


def _lines(pairs: pa.Table, prompts: pa.Array, answers: Sequence[str], rejected: Sequence[str] = ()) -> Iterator[bytes]:
    ids, images = pairs["id"].to_pylist(), pairs["images"].to_pylist()
    for i, (prompt, answer) in enumerate(zip(prompts.to_pylist(), answers, strict=True)):
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        row = {"id": ids[i], "messages": messages, "images": images[i]}
        if rejected:
            row["rejected_response"] = rejected[i]
        yield orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
