"""Pictures of one pairs folder in another: the same file, not a second one, where the file system can do that."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import whole_file


class LinkedPictures:
    """Links pictures into `OUT/images` in a `with` block; on an error those that were new there go again.

    So a step that is refused, or stopped, leaves no pictures of rows that are in no pairs file.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out / "images"
        self._seen, self._new = set[str](), list[str]()

    def __enter__(self) -> Self:
        self._made = [folder for folder in (self.folder, self.out) if not folder.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None:
            return
        with suppress(OSError):  # the first error is the one to tell
            for name in self._new:
                (self.folder / name).unlink(missing_ok=True)
            for folder in self._made:
                folder.rmdir()

    def link(self, source: Path, names: Iterable[str]) -> None:
        """source: the folder of pictures. Raises UserError for a picture that is not there."""
        for name in names:
            if name not in self._seen:
                new = not (self.folder / name).exists()
                link_picture(source, self.folder, name)
                self._seen.add(name)
                if new:
                    self._new.append(name)

    def __len__(self) -> int:
        return len(self._seen)


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
        with whole_file(target / name, durable=False) as scratch:
            shutil.copyfile(source / name, scratch)
