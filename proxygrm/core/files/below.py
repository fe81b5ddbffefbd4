"""The files of a folder in which another process may be writing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(path: Path) -> Iterator[Path]:
    """All in the folder, however deep, that are no folders; `path` itself where it is none.

    A folder that goes meanwhile is left out (Path.rglob raises then); a file that was listed may be gone when it is
    opened. Links to folders are not followed.
    """
    if not path.is_dir():
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)
