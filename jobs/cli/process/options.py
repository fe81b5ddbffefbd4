"""Options and the last line that the row commands of this group share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.cli.common.options import Renamed
from jobs.cli.common.say import echo

if TYPE_CHECKING:
    from data_tools.steps.account import Account

_FILE = click.Path(path_type=Path)
INPUT = click.option("--input", "source", type=_FILE, required=True, help="JSONL to read.")
OUTPUT = click.option("--output", "--out", "target", cls=Renamed, type=_FILE, required=True, help="JSONL to write.")
COMPAT = click.option("--compat", type=click.Choice(["upstream"]), help="Read and score as the released code does.")
EXTRACTOR = click.option("--extractor", default="", help="Describes the images.  [the judge]")
AUDITOR = click.option("--auditor", default="", help="Compares claims with the description.  [the judge]")


def say_rows(account: Account, target: Path, *counts: tuple[int, str]) -> None:
    """ "4 rows, 1 unreadable audit -> out.jsonl"; counts of 0 are left out, bad rows come last."""
    bad = [f"{count:,} bad ({reason})" for reason, count in account.bad.most_common()]
    parts = [f"{account.kept:,} rows", *(f"{count:,} {what}" for count, what in counts if count), *bad]
    echo(f"{', '.join(parts)} -> {target}", err=True)
