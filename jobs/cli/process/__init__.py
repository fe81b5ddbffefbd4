"""`proxygrm process ...`: solutions scored step by step; one file per command or group of commands, each thin."""

from __future__ import annotations

import click

from jobs.cli.process.best_of_n import best_of_n_command
from jobs.cli.process.calibrate import calibrate
from jobs.cli.process.corrupt import corrupt_command
from jobs.cli.process.intervene import intervene
from jobs.cli.process.labelled import labelled
from jobs.cli.process.match import match_command
from jobs.cli.process.rules import aggregate_command, gate_command
from jobs.cli.process.sample import sample
from jobs.cli.process.score import score
from jobs.cli.process.teach import audit, contradict, describe, judge


@click.group()
def process() -> None:
    """Process reward: scoring solutions step by step, gated by how reliably the image was read."""


process.add_command(gate_command)
process.add_command(aggregate_command)
process.add_command(best_of_n_command)
process.add_command(match_command)
process.add_command(sample)
process.add_command(score)
process.add_command(corrupt_command)
process.add_command(intervene)
process.add_command(labelled)
process.add_command(calibrate)
process.add_command(describe)
process.add_command(judge)
process.add_command(contradict)
process.add_command(audit)
