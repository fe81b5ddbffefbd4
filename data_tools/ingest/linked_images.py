"""Images of one pairs folder in another: hard links where the file system can, copies elsewhere."""

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


class LinkedImages:
    """Links images into `OUT/images` in a `with` block; new images are removed again on an error.

    So a step that fails or is stopped leaves no images of rows that are in no pairs file.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out / "images"
        self._linked, self._new = set[str](), list[str]()

    def __enter__(self) -> Self:
        self._new_folders = [folder for folder in (self.folder, self.out) if not folder.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None:
            return
        with suppress(OSError):  # the first error is the one to report
            for name in self._new:
                (self.folder / name).unlink(missing_ok=True)
            for folder in self._new_folders:
                folder.rmdir()

    def link(self, source: Path, names: Iterable[str]) -> None:
        """source: a folder of images. Raises UserError for a missing image."""
        for name in names:
            if name not in self._linked:
                new = not (self.folder / name).exists()
                link_image(source, self.folder, name)
                self._linked.add(name)
                if new:
                    self._new.append(name)

    def __len__(self) -> int:
        return len(self._linked)


def link_image(source: Path, target: Path, name: str) -> None:
    """`source` and `target` are folders of images. Raises UserError for a missing image."""
    if "/" in name or name in ("", ".", ".."):
        pairs_file = source.parent / "pairs.parquet"
        raise UserError(
            f"{pairs_file} names the image {name!r}, which is not a file name",
            code="image.bad-name", path=pairs_file, name=name,
        )  # fmt: skip
    if (target / name).exists():
        return
    try:
        os.link(source / name, target / name)
    except FileNotFoundError:
        raise UserError(
            f"the image {name!r} is not in {source}; filter with --quality, or ingest again",
            code="image.missing", path=source, name=name,
        ) from None  # fmt: skip
    except OSError:
        with whole_file(target / name, durable=False) as scratch:
            shutil.copyfile(source / name, scratch)
