"""`proxygrm data ...`: one file per command or group of commands, each a thin layer over `data_tools`."""

from __future__ import annotations

import click

from jobs.cli.data.convert import convert
from jobs.cli.data.critic import critic
from jobs.cli.data.filter import filter_pairs
from jobs.cli.data.ingest import ingest
from jobs.cli.data.inspect import check, show, stats
from jobs.cli.data.join import join
from jobs.cli.data.mix import mix
from jobs.cli.data.solutions import solutions
from jobs.cli.data.split import split
from jobs.cli.data.step_sets import step_sets


@click.group()
def data() -> None:
    """Preference data: from public releases to training files."""


data.add_command(ingest)
data.add_command(join)
data.add_command(filter_pairs)
data.add_command(mix)
data.add_command(critic)
data.add_command(solutions)
data.add_command(split)
data.add_command(step_sets)
data.add_command(convert)
data.add_command(check)
data.add_command(stats)
data.add_command(show)
