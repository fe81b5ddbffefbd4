"""Commands print their own results only. What libraries print meanwhile goes to a log, which is named at the end.

Libraries print through sys.stdout, warnings and logging, from C++ into file descriptors 1 and 2, from child processes,
and at exit. So the descriptors themselves are redirected to the log, and the command keeps copies of them:
`jobs.cli.common.console.out`, and `say`.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from jobs.cli.common import console
from jobs.cli.common.say import echo, secho
from jobs.engine.watch.known_failures import shows_known
from proxygrm.core.runtime.log_tail import shows_error, tail

SHOWN_LINES = 5


class _Ours:
    """The terminal's streams while the descriptors are redirected; None otherwise."""

    out: TextIO | None = None
    err: TextIO | None = None


def say(text: str, err: bool = False) -> None:
    """As `say.echo`, for use while libraries are kept quiet."""
    echo(text, file=_Ours.err if err else _Ours.out, err=err)


def progress_bar(*columns: Any) -> Any:
    """A rich Progress on the terminal, without rich's redirection of what libraries print."""
    from rich.progress import Progress

    out = console.out
    return Progress(
        *columns, console=out, disable=not out.is_terminal, redirect_stdout=False, redirect_stderr=False
    )  # fmt: skip


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Within the block, everything that is printed goes to a log, except by `say` and `jobs.cli.common.console.out`.

    At its end the log is named on standard error, or removed when it is empty; when the block fails, its last lines
    with an error are shown too. Nothing changes inside a SLURM job, whose output is a log already, or within another
    such block. name: of the command.
    """
    if _Ours.err is not None or (os.environ.get("SLURM_JOB_ID") and not sys.stderr.isatty()):
        yield
        return
    try:
        number, path = tempfile.mkstemp(prefix=f"proxygrm-{re.sub(r'[^a-z0-9]+', '-', name)}-", suffix=".log")
    except OSError:  # no place to write a log: noise is better than no result
        yield
        return
    log = Path(path)
    failed: BaseException | None = None
    try:
        with _redirected(number):
            yield
    except BaseException as error:
        failed = error
        raise
    finally:
        with suppress(OSError):
            _name_log(log, failed)
        if (
            log.exists()
        ):  # libraries also print when Python ends: registered last, this runs before what they registered
            atexit.register(_point_at, number)
        else:
            os.close(number)


def _name_log(log: Path, failed: BaseException | None) -> None:
    if not log.stat().st_size:
        log.unlink()
        return
    if isinstance(failed, Exception):
        for line in last_lines(log):
            secho(f"  {line}", err=True, dim=True)
    secho(f"what libraries printed: {log}", err=True, dim=True)


def last_lines(log: Path) -> list[str]:
    """The last lines of a log that show a failure; when none does, its last lines."""
    lines = tail(log, 4000)
    failures = [line for line in lines if shows_error(line) or shows_known(line)]
    return [line[:300] for line in (failures or lines)[-SHOWN_LINES:]]


@contextmanager
def _redirected(log: int) -> Iterator[None]:
    """Descriptors 1 and 2 and Python's streams write to the log; `_Ours` and the console write to the terminal."""
    before = sys.stdout, sys.stderr
    _flush()
    kept = os.dup(1), os.dup(2)
    ours = tuple(_kept(stream, at, copy) for at, (stream, copy) in enumerate(zip(before, kept, strict=True), 1))
    dumps = not faulthandler.is_enabled()
    try:
        _Ours.out, _Ours.err = ours
        console.out.file = ours[0]
        _point_at(log)
        sys.stdout = sys.stderr = _log_stream()
        if dumps:  # a crash in C++ is shown on the terminal
            faulthandler.enable(kept[1])
        yield
    finally:
        _flush()
        if dumps:
            faulthandler.disable()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        sys.stdout, sys.stderr = before
        console.out.file = None  # type: ignore[assignment]  # whatever sys.stdout is
        _Ours.out = _Ours.err = None
        for stream, old in zip(ours, before, strict=True):
            stream.flush()
            if stream is not old:
                stream.close()
        for copy in kept:
            os.close(copy)


def _point_at(log: int) -> None:
    os.dup2(log, 1)
    os.dup2(log, 2)


def _kept(stream: TextIO, number: int, copy: int) -> TextIO:
    """A stream over the copied descriptor; the stream itself when it does not use the descriptor (as in tests)."""
    try:
        if stream.fileno() != number:
            return stream
    except (OSError, ValueError):
        return stream
    return open(  # closed when the descriptors are put back
        copy, "w", buffering=1, encoding=stream.encoding, errors=stream.errors, closefd=False
    )


def _log_stream() -> TextIO:
    """Never closed: a library's logging keeps it, and writes to descriptor 2, whatever that is by then."""
    return io.TextIOWrapper(_Lenient(2, "w", closefd=False), "utf-8", "backslashreplace", write_through=True)  # type: ignore[type-var]


class _Lenient(io.FileIO):
    """A full disk must not end a run because a library prints something."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or len(data)
        except OSError:
            return len(data)


def _flush() -> None:
    """Flush the buffers of Python and C, so that each line goes where it belongs."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).fflush(None)
