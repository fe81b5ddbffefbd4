"""Training rows for ms-swift: JSONL of {id, messages, images}, with absolute picture paths.

How many pixels a picture may have is ms-swift's MAX_PIXELS, when it loads the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from data_tools.export.prompt_columns import grm_prompts, proxy_prompts
from data_tools.rows.arrays import one_array
from proxygrm.core.files.whole_file import whole_file
from proxygrm.critique.contract import parse, rubric_for_proxy
from proxygrm.critique.prompts import inert
from proxygrm.critique.targets import proxy_answer


def grm_lines(pairs: pa.Table, critiques: Sequence[str]) -> Iterator[bytes]:
    """The reward model's cold start: the instruction, and the teacher's critique as the answer."""
    question, response_1, response_2, counts = _texts(pairs)
    prompts = grm_prompts(question, response_1, response_2, counts)
    return _lines(pairs, prompts, [_answer(critique.strip()) for critique in critiques])


def proxy_lines(pairs: pa.Table, critiques: Sequence[str]) -> Iterator[bytes]:
    """The proxy's training: the pair with the teacher's rubric, and a short thought with the verdict as the answer.

    Raises ValueError for a critique that has no rubric to show, no evaluation or no verdict.
    """
    question, response_1, response_2, counts = _texts(pairs)
    prompts = proxy_prompts(question, response_1, response_2, pa.array(rubrics_of(pairs, critiques)), counts)
    return _lines(pairs, prompts, [_answer(proxy_answer(parse(critique))) for critique in critiques])


def rubrics_of(pairs: pa.Table, critiques: Sequence[str]) -> list[str]:
    """The rubrics as the proxy sees them. Raises ValueError, naming the pair, when there is none to show."""
    rubrics = []
    for pair_id, critique in zip(pairs["id"].to_pylist(), critiques, strict=True):
        rubric = rubric_for_proxy(critique)
        if rubric is None:
            raise ValueError(f"pair {pair_id!r}: the critique has no closed rubric")
        rubrics.append(rubric)
    return rubrics


def write_jsonl(path: Path, lines: Iterable[bytes]) -> int:
    """Write the lines (each with its end of line), whole or not at all; returns their number."""
    count = 0
    with whole_file(path) as scratch, scratch.open("wb") as file:
        for line in lines:
            file.write(line)
            count += 1
    return count


def _answer(text: str) -> str:
    """A teacher may quote `<image>`: ms-swift would ask for one more picture, in an answer as in a prompt."""
    return inert(text, contract=False)


def _texts(pairs: pa.Table) -> list[pa.Array]:
    columns = [one_array(pairs[name]) for name in ("question", "response_1", "response_2", "images")]
    return [*columns[:3], pc.list_value_length(columns[3])]


def _lines(pairs: pa.Table, prompts: pa.Array, answers: Sequence[str]) -> Iterator[bytes]:
    ids, images = pairs["id"].to_pylist(), pairs["images"].to_pylist()
    for pair_id, prompt, answer, paths in zip(ids, prompts.to_pylist(), answers, images, strict=True):
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        row = {"id": pair_id, "messages": messages, "images": paths}
        yield orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
