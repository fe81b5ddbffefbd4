"""Python files of the user's own: loaded by their text, with errors that name file and line."""

from __future__ import annotations

import contextlib
import linecache
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from proxygrm.core.errors import UserError
from proxygrm.core.files.owner import why_untrusted
from proxygrm.core.files.user_text import read_user_text


def load(path: Path, area: str, why_not: Callable[[Path], str] = why_untrusted) -> ModuleType:
    """The module in a file, run anew. By its text alone: no compiled copy beside it is read or written. What it prints
    goes to stderr, since a command's stdout may be read by a program.

    area: of the errors' codes. why_not: why the file must not run as this user, "" when it may.
    UserError: AREA.no-file, AREA.foreign-file, AREA.does-not-import, and those of `read_user_text`.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}", code=f"{area}.no-file", path=path)
    if reason := why_not(path):
        raise UserError(
            f"{reason}, and its code would run as you; use a copy of your own (cp, chmod go-w)",
            code=f"{area}.foreign-file",
            path=path,
        )
    module = ModuleType(f"{area}_of_user_{re.sub(r'[^a-zA-Z0-9]', '_', path.stem)}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where its dataclasses look for their annotations
    linecache.checkcache(str(path))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            exec(compile(read_user_text(path), str(path), "exec"), module.__dict__)  # noqa: S102 (the user's own)
    except (Exception, SystemExit) as error:
        if isinstance(error, UserError) and error.code.startswith("file."):
            raise
        line = line_of(error, path)
        raise UserError(
            f"{path}:{line}: {one_line(error)}",
            code=f"{area}.does-not-import",
            path=path,
            line=line,
        ) from error
    return module


def one_line(error: BaseException) -> str:
    """With its kind, unless it was written for users."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def line_of(error: BaseException, path: Path) -> int:
    """The line of the file where the error passed through, the innermost; 1 where it did not."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 1 for frame in reversed(frames) if frame.filename == str(path)), 1)
