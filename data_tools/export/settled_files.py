"""Files of images as training files name them: settled for every consumer, or the reason why their rows cannot be used.

A plain image stays where it is. One that consumers would read differently is settled into `OUT.images` beside what is
written, under the hash of its own bytes; so the trainer, and the proxy that is sent the path, see the same pixels.
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

from data_tools.ingest.picture_paths import Missing, blank_picture, notes_on
from data_tools.rows.arrays import one_array, regrouped
from data_tools.sources.base import Left
from proxygrm.core.images.paths import MissingPicture, OutsideRoot, resolve
from proxygrm.core.images.settle import Look, UnreadableImage, examine, image_of, thinness
from proxygrm.core.images.store import PictureStore

_REMEMBERED = 50_000  # files


class Good(NamedTuple):
    path: str  # absolute
    notes: frozenset[str]


class _Fit(NamedTuple):
    """A file that can be used. look: None for one that is missing, for which a grey image may stand in."""

    path: Path
    look: Look | None


class SettledFiles:
    """root: where paths begin, and which they may not leave; None: they are absolute, and images of a pairs folder,
    which were decoded when they came in. missing: "blank" lets a grey image stand in; else the row cannot be used.

    In a `with` block, a folder of settled images that was not there before goes again on an error.
    """

    def __init__(self, folder: Path, root: Path | None = None, missing: Missing = "drop") -> None:
        self._folder, self._root, self._missing = folder, root, missing
        self._seen: dict[str, _Fit | Left] = {}
        self._known: dict[str, Good | Left] = {}

    def __enter__(self) -> Self:
        self._there = self._folder.exists()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None and not self._there:
            shutil.rmtree(self._folder, ignore_errors=True)

    def fault(self, name: str) -> Left | None:
        """Why a row with this image cannot be used; nothing is written."""
        found = self._look(name)
        return found if isinstance(found, Left) else None

    def file(self, name: str) -> Good | Left:
        """The file to name for it, settled if need be."""
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[name] = self._good(self._look(name))
        return found

    def settled(self, table: pa.Table, leave: Callable[[int, Left], None], notes: Counter[str]) -> pa.Table:
        """The rows whose images are all good, with their settled paths; `leave` is called with the places of others.

        notes: counts the kept rows without an image, and those with one that something was done to.
        """
        lists = one_array(table["images"])
        flat = lists.flatten().dictionary_encode()
        files = [self.file(name) for name in flat.dictionary.to_pylist()]
        wrong: dict[int, Left] = {}
        noted: dict[int, set[str]] = {}
        if any(isinstance(file, Left) or file.notes for file in files):
            for row, place in zip(pc.list_parent_indices(lists).to_pylist(), flat.indices.to_pylist(), strict=True):
                file = files[place]
                if isinstance(file, Left):
                    wrong.setdefault(row, file)
                else:
                    noted.setdefault(row, set()).update(file.notes)
        for row, words in noted.items():
            notes.update(words if row not in wrong else ())
        notes["no_image"] += pc.sum(pc.equal(pc.list_value_length(lists), 0)).as_py() or 0
        paths = pa.array(["" if isinstance(file, Left) else file.path for file in files], pa.string())
        place_of = table.schema.get_field_index("images")
        table = table.set_column(place_of, "images", regrouped(lists, paths.take(flat.indices)))
        if not wrong:
            return table
        for row, left in sorted(wrong.items()):
            leave(row, left)
        return table.filter(pa.array([row not in wrong for row in range(table.num_rows)]))

    @cached_property
    def _store(self) -> PictureStore:
        return PictureStore(self._folder.parent, self._folder.name)

    def _good(self, found: _Fit | Left) -> Good | Left:
        if isinstance(found, Left):
            return found
        if found.look is None:
            return Good(self._path(self._store.add(blank_picture())), frozenset({"blank_picture"}))
        path = self._path(self._store.add(image_of(found.path))) if found.look.changed else str(found.path)
        return Good(path, frozenset(notes_on(found.look)))

    def _look(self, name: str) -> _Fit | Left:
        found = self._seen.get(name)
        if found is None:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            found = self._seen[name] = self._examined(name)
        return found

    def _examined(self, name: str) -> _Fit | Left:
        try:
            if not name:
                raise MissingPicture("an image that is named but not given")
            path = Path(name) if self._root is None else resolve(name, self._root)
            if self._root is None and not path.is_file():
                raise MissingPicture(name)
            look = examine(image_of(path), decode=self._root is not None)
        except MissingPicture as error:
            if self._missing != "blank":
                return Left("missing_picture", str(error))
            return _Fit(Path(name), None)
        except OutsideRoot as error:
            return Left("picture_outside_root", str(error))
        except UnreadableImage as error:
            return Left("unreadable_picture", f"{name}: {error}")
        if look.too_thin:
            return Left("stretched_picture", thinness(name, look.width, look.height))
        return _Fit(path, look)

    def _path(self, name: str) -> str:
        return str(self._store.folder.resolve() / name)
