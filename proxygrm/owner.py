"""Whose folder it is. What root or a stranger makes in it, its owner can neither change nor stop."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from proxygrm.errors import UserError


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


def name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
