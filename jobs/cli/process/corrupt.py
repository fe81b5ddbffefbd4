"""`proxygrm process corrupt`."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import click

from jobs.cli.common.options import Share
from jobs.cli.common.row_command import MAX_BAD, write_rows
from jobs.cli.process.options import COMPAT, INPUT, OUTPUT, say_rows
from proxygrm.core.bad_row import BadRow
from proxygrm.core.errors import UserError
from proxygrm.process.corrupt import MODES, WITH_RATIO


@click.command("corrupt", short_help="Descriptions of images (JSONL) -> corrupted ones.")
@INPUT
@OUTPUT
@click.option("--mode", type=click.Choice(MODES), required=True, help="What happens to the description.")
@click.option("--seed", type=int, required=True, help="Of all chance; the same seed gives the same file.")
@click.option("--ratio", type=Share(), help="With drop and flip: the probability for each text, 0 to 1.")
@COMPAT
@MAX_BAD
def corrupt_command(
    source: Path, target: Path, mode: str, seed: int, ratio: float | None, compat: str | None, max_bad: float
) -> None:
    """Corrupt the descriptions that a judge is shown, to see how much it depends on them.

    \b
    In:  {"vision": {"caption": "A triangle.", "key_facts": ["AB = 3"], "uncertain": []}, ...}
    Out: the row with the corrupted vision, and meta: what was changed

    \b
    drop               empties the caption and removes each fact with the probability --ratio
    flip               changes a number in them, or else one of < > <= >= = !=, or else a number in words, with the
                       same probability
    empty              nothing is left          drop_facts       no facts
    shuffle_facts      another order            keep_caption_only  nothing else
    noise_caption      a vague sentence as caption

    The draws of a row depend on the seed, its id (without one, its number) and nothing else. --compat upstream starts
    every row from the same generator, and marks the description in `uncertain`, which a judge can read.
    """
    from proxygrm.core.ids import has_id
    from proxygrm.process.corrupt import corrupt, generator

    if ratio is None and mode in WITH_RATIO:
        raise UserError(f"--mode {mode} needs --ratio, from 0 to 1", code="option.missing", option="--ratio")
    numbers = itertools.count(1)

    def convert(row: Any) -> dict[str, Any]:
        number = next(numbers)
        if not isinstance(row, dict):
            raise BadRow("not_an_object", "the line is not a JSON object")
        key = f"id {row['id']!r}" if has_id(row.get("id")) else f"row {number}"
        rng = random.Random(seed) if compat else generator(seed, key)
        vision, meta = corrupt(row.get("vision"), mode, rng, ratio, compat == "upstream")
        return row | {"vision": vision, "meta": meta}

    say_rows(write_rows(source, target, convert, max_bad, "descriptions"), target)
