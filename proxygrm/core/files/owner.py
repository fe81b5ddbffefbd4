"""The owner of a folder, and who else may use it. Its owner can neither change nor stop what root or another user
creates in it."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from proxygrm.core.errors import UserError

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
"""Bits of a mode that let others write."""


def refuse_foreign(folder: Path, remedy: str) -> None:
    """Raise UserError (file.foreign-owner) when the folder belongs to another user; for root also when the folder it
    would be created in does.

    remedy: continues "become NAME, or ...".
    """
    path = folder.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    owner, user = path.stat().st_uid, os.geteuid()
    if owner == user or (path != folder.absolute() and (user != 0 or owner == 0)):
        return
    name = name_of(owner)
    raise UserError(
        f"{path} belongs to {name}, and you are {name_of(user)}: become {name}, or {remedy}",
        code="file.foreign-owner",
        path=path,
        owner=name,
    )


def is_private(folder: Path) -> bool:
    """Whether it is a folder (not a link) of this user that no other user may enter. Raises OSError."""
    info = folder.lstat()
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & 0o077


def why_untrusted(path: Path) -> str:
    """Why a job must not run code from this file or folder; "" when it may, or when there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return ""
    if status.st_uid != os.geteuid():
        return f"{path} belongs to {name_of(status.st_uid)}"
    if status.st_mode & OTHERS_WRITE:
        return f"{path} may be written by others ({stat.filemode(status.st_mode)})"
    return ""


def why_anyones(path: Path) -> str:
    """Why code that this user has named must not run all the same; "" when it may: a colleague's, or a group's, may."""
    mode = path.stat().st_mode
    return f"{path} may be written by every user ({stat.filemode(mode)})" if mode & stat.S_IWOTH else ""


def name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
