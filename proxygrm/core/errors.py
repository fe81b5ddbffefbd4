"""The one error people are meant to read."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: the message says what, where and what to do, in one line.

    The command line prints it without a traceback and exits with 2; `--debug` keeps the traceback.
    """


def barred(error: BaseException) -> str:
    """Why the system gave no bytes (permission, a lost mount, too many links); "" when it did, and they made no sense.

    Readers of parquet and pictures raise OSError for both; those of the system carry a number. What cannot be reached
    may be whole: nobody should be told to fetch or write it again.
    """
    if not isinstance(error, OSError) or error.errno is None:
        return ""
    return f"{error.strerror or error}; see to it that it can be read from here"
