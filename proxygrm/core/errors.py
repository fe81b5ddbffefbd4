"""The error for mistakes that the user can fix."""

from __future__ import annotations

from typing import Any


class UserError(Exception):
    """Something the user can fix: the message says what, where and what to do, in one line.

    code: which error it is, `area.what` in kebab-case ("settings.unknown-name"). It does not change with the sentence,
    so tests and scripts compare it. values: what the message names (a path, a count, the nearest known name).

    The command line prints message and code without a traceback and exits with 2; `--debug` keeps the traceback.
    """

    code: str = ""

    def __init__(self, message: str, *, code: str = "", **values: Any) -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.values = values

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross processes by pickle, which would call the class with the message alone."""
        return _unpickled, (type(self), str(self), self.code, self.values)


def _unpickled(kind: type[UserError], message: str, code: str, values: dict[str, Any]) -> UserError:
    return kind(message, code=code, **values)


def unreadable_reason(error: BaseException) -> str:
    """Why the system could not read a file (permission, a lost mount, too many links); "" when its content is wrong.

    Readers of parquet and images raise OSError for both; errors of the system have an errno. A file that cannot be
    reached may be intact: the user must not be told to download or write it again.
    """
    if not isinstance(error, OSError) or error.errno is None:
        return ""
    return f"{error.strerror or error}; make sure that it can be read from here"
