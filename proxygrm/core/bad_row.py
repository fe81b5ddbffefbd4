"""The error for one row of an input file that cannot be used: it is counted and named, the others go on."""

from __future__ import annotations


class BadRow(ValueError):
    """cause: a word to count the row by; the message says which field is wrong."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause
