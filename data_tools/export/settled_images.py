"""Image files for training files: the path of a settled image, or the reason why a row with it cannot be used.

An image that all consumers read alike stays where it is. Any other is settled into `OUT.images` beside the output,
named by the hash of its bytes, so the trainer, and the proxy that gets the path, see the same pixels.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pyarrow as pa
import pyarrow.compute as pc

from data_tools.ingest.image_paths import OnMissing, blank_image, notes_on
from data_tools.rows.arrays import regrouped, single_array
from data_tools.sources.base import Excluded
from proxygrm.core.images.paths import MissingImage, OutsideRoot, resolve
from proxygrm.core.images.settle import Look, UnreadableImage, examine, image_of, thinness
from proxygrm.core.images.store import ImageStore

_REMEMBERED = 50_000  # files


class UsableImage(NamedTuple):
    path: str  # absolute
    notes: frozenset[str]


class _Examined(NamedTuple):
    """A usable file. look: None for a missing one, which a grey image replaces."""

    path: Path
    look: Look | None


class SettledImages:
    """Settles images into `folder`.

    root: folder that paths are relative to and must stay in; None: paths are absolute, of images of a pairs folder,
    which were decoded when they were ingested. missing: "blank" uses a grey image for a missing one; otherwise the row
    cannot be used. In a `with` block, a folder that did not exist before is removed on an error.
    """

    def __init__(self, folder: Path, root: Path | None = None, missing: OnMissing = "drop") -> None:
        self._folder, self._root, self._missing = folder, root, missing
        self._examined: dict[str, _Examined | Excluded] = {}
        self._usable: dict[str, UsableImage | Excluded] = {}

    def __enter__(self) -> Self:
        self._existed = self._folder.exists()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None and not self._existed:
            shutil.rmtree(self._folder, ignore_errors=True)

    def fault(self, name: str) -> Excluded | None:
        """Why a row with this image cannot be used, or None; writes nothing."""
        examined = self._examine_once(name)
        return examined if isinstance(examined, Excluded) else None

    def file(self, name: str) -> UsableImage | Excluded:
        """The file to use for this image, settled if necessary."""
        image = self._usable.get(name)
        if image is None:
            if len(self._usable) >= _REMEMBERED:
                self._usable.clear()
            image = self._usable[name] = self._settle(self._examine_once(name))
        return image

    def settled(self, table: pa.Table, exclude: Callable[[int, Excluded], None], notes: Counter[str]) -> pa.Table:
        """The rows whose images are all usable, with settled paths; `exclude` is called for the other rows.

        notes: counts the kept rows without an image, and those with a changed image.
        """
        lists = single_array(table["images"])
        flat = lists.flatten().dictionary_encode()
        files = [self.file(name) for name in flat.dictionary.to_pylist()]
        excluded: dict[int, Excluded] = {}
        row_notes: dict[int, set[str]] = {}
        if any(isinstance(file, Excluded) or file.notes for file in files):
            for row, position in zip(pc.list_parent_indices(lists).to_pylist(), flat.indices.to_pylist(), strict=True):
                file = files[position]
                if isinstance(file, Excluded):
                    excluded.setdefault(row, file)
                else:
                    row_notes.setdefault(row, set()).update(file.notes)
        for row, words in row_notes.items():
            notes.update(words if row not in excluded else ())
        notes["no_image"] += pc.sum(pc.equal(pc.list_value_length(lists), 0)).as_py() or 0
        paths = pa.array(["" if isinstance(file, Excluded) else file.path for file in files], pa.string())
        column = table.schema.get_field_index("images")
        table = table.set_column(column, "images", regrouped(lists, paths.take(flat.indices)))
        if not excluded:
            return table
        for row, reason in sorted(excluded.items()):
            exclude(row, reason)
        return table.filter(pa.array([row not in excluded for row in range(table.num_rows)]))

    @cached_property
    def _store(self) -> ImageStore:
        return ImageStore(self._folder.parent, self._folder.name)

    def _settle(self, examined: _Examined | Excluded) -> UsableImage | Excluded:
        if isinstance(examined, Excluded):
            return examined
        if examined.look is None:
            return UsableImage(self._path(self._store.add(blank_image())), frozenset({"blank_image"}))
        changed = examined.look.changed
        path = self._path(self._store.add(image_of(examined.path))) if changed else str(examined.path)
        return UsableImage(path, frozenset(notes_on(examined.look)))

    def _examine_once(self, name: str) -> _Examined | Excluded:
        examined = self._examined.get(name)
        if examined is None:
            if len(self._examined) >= _REMEMBERED:
                self._examined.clear()
            examined = self._examined[name] = self._examine(name)
        return examined

    def _examine(self, name: str) -> _Examined | Excluded:
        try:
            if not name:
                raise MissingImage("the row names an image without giving it")
            path = Path(name) if self._root is None else resolve(name, self._root)
            if self._root is None and not path.is_file():
                raise MissingImage(name)
            look = examine(image_of(path), decode=self._root is not None)
        except MissingImage as error:
            if self._missing != "blank":
                return Excluded("missing_image", str(error))
            return _Examined(Path(name), None)
        except OutsideRoot as error:
            return Excluded("image_outside_root", str(error))
        except UnreadableImage as error:
            return Excluded("unreadable_image", f"{name}: {error}")
        if look.too_thin:
            return Excluded("stretched_image", thinness(name, look.width, look.height))
        return _Examined(path, look)

    def _path(self, name: str) -> str:
        return str(self._store.folder.resolve() / name)
