"""The project's prompts for whole columns of pairs, byte for byte those of `proxygrm.critique.prompts`.

The wording comes from these functions themselves (filled with marks, then split at the marks), so the two cannot
differ. Nearly all texts need no cleaning and are joined by arrow; the others go through
`proxygrm.critique.prompts.inert` one by one.
"""

from __future__ import annotations

import re
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

from data_tools.rows.arrays import to_numpy
from proxygrm.critique.prompts import IMAGE_TAG, grm_prompt, inert, proxy_prompt, r1_prompt

_MARKS = ("\ue000", "\ue001", "\ue002", "\ue003")  # private-use characters, which the wording does not contain
# Matches at least what `inert` changes. A match too many costs time, a missing one would be a bug.
_SUSPECT = (
    r"<(\||(?i:/?(rubric|justify|eval|answer|think|image|img|video|audio|bbox|ref-object|cot-process|start-image))>)"
)
# What `str.strip` strips.
SPACE = "".join(c for c in map(chr, range(0x3001)) if c.isspace())


def grm_prompts(question: pa.Array, response_1: pa.Array, response_2: pa.Array, images: pa.Array) -> pa.Array:
    """`grm_prompt` of every row; images: number of images per row."""
    return _fill("grm", [question, response_1, response_2], None, images)


def r1_prompts(question: pa.Array, response_1: pa.Array, response_2: pa.Array, images: pa.Array) -> pa.Array:
    """`r1_prompt` of every row."""
    return _fill("r1", [question, response_1, response_2], None, images)


def proxy_prompts(
    question: pa.Array, response_1: pa.Array, response_2: pa.Array, rubric: pa.Array, images: pa.Array
) -> pa.Array:
    """`proxy_prompt` of every row."""
    return _fill("proxy", [question, response_1, response_2], rubric, images)


def _fill(name: str, texts: list[pa.Array], rubric: pa.Array | None, images: pa.Array) -> pa.Array:
    values = [clean_texts(text) for text in texts]
    if rubric is not None:
        values.append(clean_texts(rubric, contract=False))
    parts: list[pa.Array | pa.Scalar] = [image_tags(images)]
    for piece in _pieces(name):
        parts.append(values[_MARKS.index(piece)] if piece in _MARKS else pa.scalar(piece))
    return pc.binary_join_element_wise(*parts, pa.scalar(""))


@cache
def _pieces(name: str) -> tuple[str, ...]:
    """The pieces of the wording and, between them, the marks that stand for question, responses and rubric."""
    question, response_1, response_2, rubric = _MARKS
    if name == "proxy":
        filled = proxy_prompt(question, response_1, response_2, rubric, images=0)
    else:
        filled = {"grm": grm_prompt, "r1": r1_prompt}[name](question, response_1, response_2, images=0)
    return tuple(piece for piece in re.split(f"([{''.join(_MARKS)}])", filled) if piece)


def clean_texts(texts: pa.Array, contract: bool = True) -> pa.Array:
    """`inert(text, contract).strip()` of every text (strings, no nulls).

    Raises ValueError if an `<image>` remains, for which trainers would expect another image.
    """
    texts = pc.utf8_trim(texts, characters=SPACE)
    suspect = pc.match_substring_regex(texts, _SUSPECT)
    if not pc.any(suspect).as_py():
        return texts
    cleaned = [inert(text, contract) for text in texts.filter(suspect).to_pylist()]
    if any(IMAGE_TAG in text for text in cleaned):
        raise ValueError(f"a text still has {IMAGE_TAG} after cleaning")
    return pc.replace_with_mask(texts, suspect, pa.array(cleaned, texts.type))


def image_tags(images: pa.Array) -> pa.Array:
    """As many tags as each row has images."""
    counts = to_numpy(images)
    most = int(counts.max()) if len(counts) else 0
    return pa.array([IMAGE_TAG * count for count in range(most + 1)]).take(images)
