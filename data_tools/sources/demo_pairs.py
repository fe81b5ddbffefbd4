"""Draws the preference pairs of the demo, in the parquet layout of RLAIF-V, so that the normal ingestion reads them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data_tools.rows.preference import label_for
from data_tools.sources.rlaif_v import row_id
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import whole_file
from proxygrm.demo.scenes import KINDS, MOSTLY_COLOUR, Combination, draw, separate

DS_NAME = "ProxyGRM demo"
_HELD_OUT_FROM = 1_000_000  # held-out indices start here, so the two files never share an id


def write_demo_pairs(
    out: Path,
    train: int,
    held_out: int,
    seed: int,
    kinds: Mapping[str, float] | Iterable[str] = MOSTLY_COLOUR,
    fog: float = 0.0,
) -> None:
    """Write `out/train.parquet` and `out/held_out.parquet`.

    kinds: share of each kind of question (or their names only, for equal shares). The combinations (shape x colour x
    colour, and so on) of the two files are disjoint. Ingestion orders the responses by a hash of the id; ids are chosen
    so that labels 1 and 2 are equally frequent (odd numbers: one apart), also within each kind. fog: share of the
    colour questions whose image is in fog. Raises UserError for an unknown kind or a number out of range.
    """
    shares = dict(kinds) if isinstance(kinds, Mapping) else dict.fromkeys(kinds, 1.0)
    unknown = sorted(set(shares) - set(KINDS))
    if unknown or not shares or min(shares.values()) < 0 or sum(shares.values()) <= 0:
        raise UserError(
            f"demo kinds {shares!r} are invalid; give shares of some of: {', '.join(KINDS)}",
            code="option.bad-value", option="kinds", value=shares, known=list(KINDS),
        )  # fmt: skip
    if train < 1 or held_out < 1:
        raise UserError(
            f"demo pairs: {train} training and {held_out} held-out pairs requested; both must be above 0",
            code="option.bad-value", option="pairs", value=[train, held_out],
        )  # fmt: skip
    if not 0 <= fog <= 1:
        raise UserError(
            f"demo pairs: fog is {fog}; it must be from 0 to 1", code="option.bad-value", option="fog", value=fog
        )
    out.mkdir(parents=True, exist_ok=True)
    for name, count, first, part in (("train", train, 0, 0), ("held_out", held_out, _HELD_OUT_FROM, 1)):
        rng = random.Random(f"{name} {seed}")
        wanted: list[tuple[Combination, int]] = []
        for kind, amount in _apportion(count, shares).items():
            wanted += _with_labels(separate(kind, seed)[part], amount, surplus=_surplus(wanted))
        rng.shuffle(wanted)
        _write(out / f"{name}.parquet", _rows(wanted, first, name, rng, fog))


def _with_labels(pool: list[Combination], amount: int, surplus: int) -> list[tuple[Combination, int]]:
    """`amount` combinations, all equally often, with alternating labels.

    The label of a combination changes with each repetition, so no combination predicts the label. surplus: labels 1
    minus labels 2 so far; the labels are exchanged if this part would increase it.
    """
    cycles = [divmod(i, len(pool)) for i in range(amount)]
    labelled = [(pool[index], 1 + (index + cycle) % 2) for cycle, index in cycles]
    if surplus * _surplus(labelled) > 0:
        labelled = [(combination, 3 - label) for combination, label in labelled]
    return labelled


def _surplus(labelled: list[tuple[Combination, int]]) -> int:
    return sum(1 if label == 1 else -1 for _, label in labelled)


def _apportion(count: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers that add up to `count`, largest remainders first."""
    exact = {kind: count * share / sum(shares.values()) for kind, share in shares.items()}
    amounts = {kind: math.floor(value) for kind, value in exact.items()}
    by_remainder = sorted(exact, key=lambda kind: amounts[kind] - exact[kind])
    for kind in by_remainder[: count - sum(amounts.values())]:
        amounts[kind] += 1
    return amounts


def _rows(
    wanted: list[tuple[Combination, int]], first: int, split: str, rng: random.Random, fog: float
) -> Iterator[dict[str, Any]]:
    """Rows in this order; the index of each is the next one whose id hashes to the wanted label."""
    idx = first
    for combination, label in wanted:
        while label_for(row_id(DS_NAME, idx)) != label:
            idx += 1
        path = f"demo/{split}/{idx}.png"
        in_fog = combination.kind == "colour" and rng.random() < fog
        yield {
            "ds_name": DS_NAME,
            "image": {"bytes": draw(combination, rng, in_fog), "path": path},
            "question": combination.question,
            "chosen": combination.response(combination.right),
            "rejected": combination.response(combination.wrong),
            "origin_dataset": "drawn",
            "origin_split": f"{combination.kind}{' in fog' if in_fog else ''}",
            "idx": idx,
            "image_path": path,
        }
        idx += 1


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.string()
    columns = {
        "ds_name": text,
        "image": pa.struct([("bytes", pa.binary()), ("path", text)]),
        **dict.fromkeys(("question", "chosen", "rejected", "origin_dataset", "origin_split"), text),
        "idx": pa.int64(),
        "image_path": text,
    }
    with whole_file(path) as scratch:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=pa.schema(list(columns.items()))), scratch)
