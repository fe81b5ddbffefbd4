"""Whose folder it is, and who else may use it. What root or a stranger makes in it, its owner can neither change nor
stop."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from proxygrm.core.errors import UserError

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
"""Bits of a mode with which somebody else may write."""


def refuse_foreign(folder: Path, remedy: str) -> None:
    """Raise UserError when the folder belongs to another user; for root also when what it would be made in does.

    remedy: continues "become NAME, or ...".
    """
    path = folder.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    owner, me = path.stat().st_uid, os.geteuid()
    if owner == me or (path != folder.absolute() and (me != 0 or owner == 0)):
        return
    who = name_of(owner)
    raise UserError(f"{path} belongs to {who}, and you are {name_of(me)}: become {who}, or {remedy}")


def is_private(folder: Path) -> bool:
    """Whether it is a folder (not a link to one) of this user's that nobody else may enter. Raises OSError."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
