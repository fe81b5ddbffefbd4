"""Draws a critic's tasks for the demo, in LLaVA-Critic's released layout: comparisons and scores of drawn images."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from proxygrm.core.files.whole_file import whole_file
from proxygrm.demo.scenes import KINDS, Combination, draw, separate

COMPARE = "Two answers to a question about the image are below. Say which one is better, and why."
SCORE = "An answer to a question about the image is below. Score it out of 100, and say why."
BEST, WORST = 90, 10
PLACES = ("first", "second")


def write_demo_critic(out: Path, comparisons: int, scores: int, seed: int, kind: str = "colour") -> None:
    """Write `out/pairwise/train.parquet` and `out/pointwise/train.parquet`. A scored image has a right and a wrong
    answer; none of the facts is one of the demo's benchmarks or held-out pairs."""
    rng = random.Random(f"critic {seed}")
    combinations = cycle(separate(kind, seed)[0])
    _write(out / "pairwise", [_comparison(i, c, rng) for i, c in enumerate(islice(combinations, comparisons))])
    of_images = islice(combinations, (scores + 1) // 2)
    _write(
        out / "pointwise", list(islice((row for i, c in enumerate(of_images) for row in _scores(i, c, rng)), scores))
    )


def _comparison(number: int, combination: Combination, rng: random.Random) -> dict[str, Any]:
    facts = [combination.right, combination.wrong]
    rng.shuffle(facts)
    better = facts.index(combination.right)
    human = "".join(
        (
            f"<image>\n{COMPARE}\nQuestion: [{combination.question}]\n",
            *(f"The {place} response: [{combination.response(f)}]\n" for place, f in zip(PLACES, facts, strict=True)),
            "ASSISTANT:\n",
        )
    )
    said = " ".join(
        f"Response {i} says {fact}: {'right' if fact == combination.right else 'wrong'}."
        for i, fact in enumerate(facts, 1)
    )
    gpt = f"{_seen(combination)} {said}\nThe better response: [{PLACES[better]}]"
    return _row(f"drawn-pairwise-{number}", human, gpt, draw(combination, rng))


def _scores(number: int, combination: Combination, rng: random.Random) -> Iterator[dict[str, Any]]:
    image = draw(combination, rng)
    for fact in (combination.right, combination.wrong):
        right = fact == combination.right
        human = (
            f"<image>\n{SCORE}\nQuestion: [{combination.question}]\n"
            f"The LMM response: [{combination.response(fact)}]\nASSISTANT:\n"
        )
        said = f"The response says {fact}: {'right' if right else 'wrong'}."
        gpt = f"{_seen(combination)} {said}\nFinal Score: {BEST if right else WORST}"
        yield _row(f"drawn-pointwise-{number}-{fact}", human, gpt, image)


def _seen(combination: Combination) -> str:
    return f"The {KINDS[combination.kind].noun} in the image is {combination.right}."


def _row(row_id: str, human: str, gpt: str, image: bytes) -> dict[str, Any]:
    turns = [{"from": "human", "value": human}, {"from": "gpt", "value": gpt}]
    return {
        "id": row_id,
        "source": "drawn",
        "conversations": turns,
        "image": {"bytes": image, "path": f"{row_id}.png"},
    }


def _write(folder: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    columns = {
        "id": text,
        "source": text,
        "conversations": pa.list_(pa.struct([("from", text), ("value", text)])),
        "image": pa.struct([("bytes", pa.binary()), ("path", text)]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "train.parquet") as scratch:
        pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(list(columns.items()))), scratch)
