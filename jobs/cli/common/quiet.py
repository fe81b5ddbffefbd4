"""Commands for people print what people asked for. What libraries print meanwhile goes to a log, which is named.

Libraries print from everywhere: through sys.stdout, through warnings and logging, from C++ into file descriptors 1 and
2, from child processes, and at exit. So the descriptors themselves are turned over to the log, and the command keeps a
copy of its own: `jobs.cli.common.console.out`, and `say`.
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
from jobs.engine.watch.known_failures import FAILURES
from proxygrm.core.runtime.log_tail import tail

SHOWN_LINES = 5
_TELLING = re.compile(r"\b[\w.]*(?:Error|Exception|Killed|Abort(?:ed)?)\b|\bfatal\b", re.IGNORECASE)


class _Ours:
    """The person's streams while the descriptors are the log's; None otherwise."""

    out: TextIO | None = None
    err: TextIO | None = None


def say(text: str, err: bool = False) -> None:
    """`say.echo` for what may be said while libraries are kept quiet."""
    echo(text, file=_Ours.err if err else _Ours.out, err=err)


def progress_bar(*columns: Any) -> Any:
    """A rich Progress for the person at the terminal; it does not lead what libraries print there, as rich would."""
    from rich.progress import Progress

    out = console.out
    return Progress(
        *columns, console=out, disable=not out.is_terminal, redirect_stdout=False, redirect_stderr=False
    )  # fmt: skip


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Within the block, all that is printed goes to a log, but for `say` and `jobs.cli.common.console.out`.

    At its end the log is named on standard error, or removed when it is empty; when the block fails, the last lines
    that tell why are shown too. Inside a SLURM job, whose output is a log already, nothing changes; nor within another
    such block. name: of the command.
    """
    if _Ours.err is not None or (os.environ.get("SLURM_JOB_ID") and not sys.stderr.isatty()):
        yield
        return
    try:
        number, path = tempfile.mkstemp(prefix=f"proxygrm-{re.sub(r'[^a-z0-9]+', '-', name)}-", suffix=".log")
    except OSError:  # nowhere to write: rather noise than no result
        yield
        return
    log = Path(path)
    failed: BaseException | None = None
    try:
        with _turned_over(number):
            yield
    except BaseException as error:
        failed = error
        raise
    finally:
        with suppress(OSError):
            _tell(log, failed)
        if (
            log.exists()
        ):  # libraries also print when Python ends: registered last, this runs before what they registered
            atexit.register(_point_at, number)
        else:
            os.close(number)


def _tell(log: Path, failed: BaseException | None) -> None:
    if not log.stat().st_size:
        log.unlink()
        return
    if isinstance(failed, Exception):
        for line in last_lines(log):
            secho(f"  {line}", err=True, dim=True)
    secho(f"what libraries printed: {log}", err=True, dim=True)


def last_lines(log: Path) -> list[str]:
    """The last lines of a log that tell of a failure; when none does, its last lines."""
    lines = tail(log, 4000)
    telling = [line for line in lines if _TELLING.search(line) or any(known.shows.search(line) for known in FAILURES)]
    return [line[:300] for line in (telling or lines)[-SHOWN_LINES:]]


@contextmanager
def _turned_over(log: int) -> Iterator[None]:
    """Descriptors 1 and 2 and Python's streams are the log's; `_Ours` and the console are what they were."""
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
        if dumps:  # a crash in C++ is told to the person
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
    """The stream over the copied descriptor; itself when it is not over the descriptor (a test's, a notebook's)."""
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
    """A full disk must not end a run for the sake of a library's chatter."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or len(data)
        except OSError:
            return len(data)


def _flush() -> None:
    """Python's buffers and those of C, so that each line goes where it belongs."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).fflush(None)
