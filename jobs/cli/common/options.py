"""Options that say nothing in what was asked for: refused, because whoever gives one wants it to be heeded."""

from __future__ import annotations

import click
from click.core import ParameterSource

from proxygrm.core.errors import UserError


def given(name: str) -> bool:
    """Was this parameter of the running command typed, whatever its value?"""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def refuse_idle(names: str, why: str, *, unless: object = False) -> None:
    """UserError when one of the parameters `names` (parted by blanks) was typed, unless it has an effect.

    why: continues "--OPTION has no effect ", for example "without --submit".
    """
    if unless:
        return
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names.split() and given(parameter.name):
            raise UserError(f"{parameter.opts[0]} has no effect {why}; leave it out")


class Renamed(click.Option):
    """An option with an older name, which is still taken and no longer shown: the first of its names is the one."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        names, self.opts = self.opts, self.opts[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = names
