"""Where commands print text that is not a table: the only file that calls click's echo. Control characters from other
programs are spelled out; colours are those requested here. (Tables and rich text: `jobs.cli.common.console.out`.)"""

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
    """Unchanged, for --raw."""
    click.echo(data, nl=False)


def guard_the_rest() -> None:
    """Spell out control characters in unexpected errors and logged warnings, which Python prints itself."""
    sys.excepthook = _unexpected
    if logging.lastResort:
        logging.lastResort.setFormatter(_Visible())


def _unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    echo("".join(traceback.format_exception(kind, error, trace)), err=True, nl=False)


class _Visible(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))
