"""The one error people are meant to read."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: the message says what, where and what to do, in one line.

    The command line prints it without a traceback and exits with 2; `--debug` keeps the traceback.
    """
