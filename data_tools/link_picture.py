"""A picture of one pairs folder in another: the same file, not a second one, where the file system can do that."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from proxygrm.errors import UserError
from proxygrm.whole_file import whole_file


def link_picture(source: Path, target: Path, name: str) -> None:
    """`source` and `target` are the folders of pictures. Raises UserError for a picture that is not there."""
    if "/" in name or name in ("", ".", ".."):
        raise UserError(f"{source.parent / 'pairs.parquet'} names the picture {name!r}, which is no file name")
    if (target / name).exists():
        return
    try:
        os.link(source / name, target / name)
    except FileNotFoundError:
        raise UserError(f"the picture {name!r} is not in {source}; filter with --quality, or ingest again") from None
    except OSError:
        with whole_file(target / name) as scratch:
            shutil.copyfile(source / name, scratch)
