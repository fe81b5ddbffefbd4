"""`proxygrm data split PAIRS CRITIQUES... --out DIR`"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from proxygrm.core.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from data_tools.split.run import SplitReport
    from data_tools.split.training_set import Short, TrainingSet

_PATH = click.Path(path_type=Path)


@click.command(short_help="Pairs and the teacher's critiques -> training sets.")
@click.argument("pairs", type=_PATH)
@click.argument("critiques", type=_PATH, nargs=-1, required=True)
@click.option("--out", type=_PATH, required=True, help="The folder to write the sets to.")
@click.option("--recipe", default="proxy_grm", metavar="NAME[:PRESET]", show_default=True, help="Whose sets to write.")
@click.option("--sizes", default="", metavar="NAME=ROWS,...", help="Rows per set; 0 leaves it out.  [the recipe's]")
@click.option("--seed", default=0, show_default=True, help="Random seed of the row selection.")
@click.option(
    "--short",
    type=click.Choice(["refuse", "take"]),
    default="refuse",
    show_default=True,
    help="With too few pairs: fail, or make the sets smaller, in proportion.",
)
def split(pairs: Path, critiques: tuple[Path, ...], out: Path, recipe: str, sizes: str, seed: int, short: str) -> None:
    """Split the PAIRS folder into sets by the teacher's CRITIQUES (files, or a folder of shard-*.jsonl).

    The sets are those of a recipe's chain, with the rows of its preset: some take pairs that the teacher judged right,
    some those that it judged wrong, or not at its first try. No image is in two sets, nor a question without one, but
    for a set that a recipe puts beside another; labels are balanced, and sources are as frequent as in the pool.
    OUT/report.json counts the other pairs, by reason.
    """
    from data_tools.filters.difficulty import critique_files
    from data_tools.split.run import split as split_pairs
    from jobs.cli.common.console import out as console
    from jobs.cli.common.quiet import quiet

    sets = sets_of(recipe)
    for name, rows in read_sizes(sizes, tuple(sets)).items():
        sets[name] = replace(sets[name], rows=rows)
    with quiet("data split"):
        report = split_pairs(pairs, critique_files(critiques), out, sets, seed, cast("Short", short))
    console.print(report_table(report))
    console.print(f"{out / 'report.json'}", soft_wrap=True)


def sets_of(spec: str) -> dict[str, TrainingSet]:
    """The training sets of a recipe's chain, NAME[:PRESET]. Raises UserError (data.no-sets) where it splits nothing."""
    from jobs.recipes import find
    from jobs.stages.data.split import Settings

    recipe, preset = find(spec)
    stages = recipe.stages(recipe.settings(preset or next(iter(recipe.presets))))
    sets = {
        name: each
        for stage in stages
        if isinstance(stage.config, Settings)
        for name, each in stage.config.sized.items()
    }
    if not sets:
        raise UserError(
            f"--recipe {spec}: its chain splits no pairs into sets; name another recipe",
            code="data.no-sets",
            recipe=spec,
        )
    return sets


def read_sizes(text: str, names: tuple[str, ...]) -> dict[str, int]:
    """Read "a=5,b=0" as {"a": 5, "b": 0}. Raises UserError."""
    sizes = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, number = item.partition("=")
        if not (equals and name in names and number.isascii() and number.isdigit()):
            raise UserError(
                f"--sizes: {item!r} is not NAME=ROWS with one of the names {', '.join(names)}",
                code="option.bad-value", option="--sizes", value=item, known=list(names),
            )  # fmt: skip
        sizes[name] = int(number)
    return sizes


def report_table(report: SplitReport) -> Table:
    """The sets with their rows, and the pairs in none."""
    from rich.table import Table

    table = Table()
    table.add_column("set")
    for title in ("rows", "label 1", "label 2", "images"):
        table.add_column(title, justify="right")
    for name, counts in report.sets.items():
        table.add_row(name, *(f"{counts[key]:,}" for key in ("rows", "label_1", "label_2", "images")))
    for pool, count in report.left_over.items():
        shared = report.shared_image[pool] + report.shared_question[pool]
        note = f", {shared:,} of them share an image or a question with a set" if shared else ""
        whose = f"teacher {pool}" if pool in ("right", "wrong") else pool
        table.add_row(f"left over, {whose}{note}", f"{count:,}")
    for tries, count in report.tries.items() if len(report.tries) > 2 else ():
        table.add_row(f"right at try {tries}" if tries.isdigit() else "right at no try", f"{count:,}")
    for reason, count in report.dropped.items():
        table.add_row(f"dropped: {reason.replace('_', ' ')}", f"{count:,}")
    for remark, count in report.remarks.items():
        table.add_row(f"note: {remark.replace('_', ' ')}", f"{count:,}")
    return table
