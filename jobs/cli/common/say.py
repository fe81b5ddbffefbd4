"""Where commands print text that is not a table: the only place that calls click's echo. What others wrote is shown and
told to no terminal; colours are those asked for here. (Tables and rich text: `jobs.cli.common.console.out`.)"""

from __future__ import annotations

import logging
import sys
import traceback
from types import TracebackType
from typing import IO, Any

import click

from proxygrm.core.visible import visible


def echo(message: object = "", *, err: bool = False, nl: bool = True, file: IO[Any] | None = None) -> None:
    click.echo(visible(str(message)), err=err, nl=nl, file=file)


def secho(
    message: object = "", *, err: bool = False, nl: bool = True, file: IO[Any] | None = None, **style: Any
) -> None:
    """style: as of `click.style`."""
    click.secho(visible(str(message)), err=err, nl=nl, file=file, **style)


def raw(data: bytes) -> None:
    """As it is, for who asks for that."""
    click.echo(data, nl=False)


def guard_the_rest() -> None:
    """What Python itself would print of an error that nobody expected, and of a warning that is logged."""
    sys.excepthook = _unexpected
    if logging.lastResort:
        logging.lastResort.setFormatter(_Visible())


def _unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    echo("".join(traceback.format_exception(kind, error, trace)), err=True, nl=False)


class _Visible(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))
