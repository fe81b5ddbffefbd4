"""Keys in files that only their owner may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text


def read_key(path: Path) -> str:
    """UserError: the file is missing, others can read it, or it holds no key."""
    try:
        mode, key = path.stat().st_mode, read_user_text(path).strip()
    except OSError as error:
        raise UserError(
            f"key file {path}: {error.strerror}; write the key there with mode 0600",
            code="key-file.unreadable",
            path=path,
            reason=error.strerror,
        ) from error
    if mode & 0o077:
        raise UserError(
            f"key file {path} can be read by others; run: chmod 600 {path}", code="key-file.not-private", path=path
        )
    if not key:
        raise UserError(
            f"key file {path} is empty; write the key there, or remove a file that is made when missing",
            code="key-file.empty",
            path=path,
        )
    return key


def read_or_make_key(path: Path) -> str:
    """The key in the file, made when there is no file. UserError as `read_key`, or the file cannot be written."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    except FileExistsError:
        pass
    except OSError as error:
        raise UserError(
            f"key file {path} cannot be written: {error.strerror}",
            code="file.cannot-write",
            path=path,
            reason=error.strerror,
        ) from error
    return read_key(path)


def can_be_sent(key: str) -> bool:
    """In an HTTP header."""
    return key.isascii() and (key.isprintable() or not key)
