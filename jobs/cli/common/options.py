"""Click options that commands share, and the check that rejects options without effect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from proxygrm.core.errors import UserError

tensor_parallel_option = click.option(
    "--tensor-parallel-size",
    "--tensor-parallel",
    "tensor_parallel_size",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="GPUs per copy of a model.",
)

reuse_option = click.option(
    "--reuse",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Link what this other run has finished with the same settings, data and code; the run remembers it.",
)


no_key_option = click.option(
    "--no-key", is_flag=True, help="Require no key; other machines can then call only with --allow."
)

allow_option = click.option(
    "--allow",
    multiple=True,
    metavar="ADDRESS[/BITS]",
    help="Callers with this address need no key; may be repeated.  [with --no-key: this machine]",
)
RUN = click.option(
    "--run",
    type=click.Path(path_type=Path),
    default=None,
    help="Run folder.  [the one written to last under runs/; with --profile or --recipe runs/PROFILE]",
)
SCRIPT = click.option(
    "--script", "--dry-run", "script", is_flag=True, help="Also print every batch script and every file, exactly."
)


def with_options(options: Sequence[Any]) -> Any:
    """A decorator: all these options, in their order."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


request_options = with_options(
    [
        click.option("--profile", default=None, help="Cluster: local, a100, h100, a .toml.  [the run's, else local]"),
        click.option(
            "--recipe",
            default="",
            metavar="NAME[:PRESET]",
            help="proxy_grm:demo, or your own FILE.py.  [the run's, else the profile's]",
        ),
        click.option(
            "--nodes", type=click.IntRange(1), default=None, help="Nodes of the RL stage, proxy node included."
        ),
        click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="A setting, STAGE.NAME=VALUE."),
        click.option("--partition", default=None, help="Instead of the profile's."),
        click.option("--account", default=None),
        click.option("--qos", default=None),
        click.option("--reservation", default=None),
        RUN,
    ]
)
"""What to run and where; `plan`, `submit` and `ablate` share them."""
sending_options = with_options(
    [
        click.option("--hold", is_flag=True, help="Queue it held; `scontrol release` starts it."),
        click.option("--after", multiple=True, metavar="JOBID", help="Start when this other job has ended well."),
    ]
)
"""Of one submission; the run does not keep them."""


def refuse_key_and_none(command: str, key_file: Path | None, no_key: bool) -> None:
    """Raises UserError: option.conflict."""
    if no_key and key_file:
        raise UserError(
            f"{command}: --no-key and --key-file exclude each other; drop one",
            code="option.conflict",
            options=["--no-key", "--key-file"],
        )


def was_typed(name: str) -> bool:
    """Whether this parameter of the running command was typed, whatever its value."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def refuse_idle(names: str, why: str, *, unless: object = False) -> None:
    """Raise UserError when one of the parameters `names` (separated by spaces) was typed, unless it has an effect.

    why: continues "--OPTION has no effect ", for example "without --submit".
    """
    if unless:
        return
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names.split() and was_typed(parameter.name):
            option = parameter.opts[0]
            raise UserError(f"{option} has no effect {why}; leave it out", code="option.no-effect", option=option)


class FiniteNumber(click.types.FloatParamType):
    """A number; NaN, which compares with nothing, and the infinities are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class FiniteRange(click.FloatRange, FiniteNumber):
    """The same between bounds."""


class Share(FiniteRange):
    """A number from 0 to 1."""

    name = "share"

    def __init__(self) -> None:
        super().__init__(0, 1)


class NamedPath(click.Path):
    """A path where an empty text, a variable of the shell that is not set, must not be the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("it is empty; name a folder, or leave the option out.", param, ctx)
        return super().convert(value, param, ctx)


class Renamed(click.Option):
    """An option whose older names still work but are hidden from `--help`."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        names, self.opts = self.opts, self.opts[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = names
