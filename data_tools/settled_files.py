"""Files of images as training files name them: settled for every consumer, or the reason why their rows cannot be used.

A plain image stays where it is. One that consumers would read differently is settled into `OUT.images` beside what is
written, under the hash of its own bytes; so the trainer, and the proxy that is sent the path, see the same pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from data_tools.arrays import one_array, regrouped
from data_tools.picture_paths import Missing, blank_picture, notes_on
from data_tools.source import Left
from proxygrm.image_paths import MissingPicture, OutsideRoot, resolve
from proxygrm.image_store import PictureStore
from proxygrm.images import UnreadableImage, examine, image_of, thinness

_REMEMBERED = 50_000  # files


class Good(NamedTuple):
    path: str  # absolute
    notes: frozenset[str]


class SettledFiles:
    """root: where paths begin, and which they may not leave; None: they are absolute, and images of a pairs folder,
    which were decoded when they came in. missing: "blank" lets a grey image stand in; else the row cannot be used."""

    def __init__(self, folder: Path, root: Path | None = None, missing: Missing = "drop") -> None:
        self._folder, self._root, self._missing = folder, root, missing
        self._known: dict[str, Good | Left] = {}

    def file(self, name: str) -> Good | Left:
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[name] = self._look(name)
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

    def _look(self, name: str) -> Good | Left:
        try:
            if not name:
                raise MissingPicture("an image that is named but not given")
            path = Path(name) if self._root is None else resolve(name, self._root)
            if self._root is None and not path.is_file():
                raise MissingPicture(name)
            data = image_of(path)
            look = examine(data, decode=self._root is not None)
        except MissingPicture as error:
            if self._missing != "blank":
                return Left("missing_picture", str(error))
            return Good(self._path(self._store.add(blank_picture())), frozenset({"blank_picture"}))
        except OutsideRoot as error:
            return Left("picture_outside_root", str(error))
        except UnreadableImage as error:
            return Left("unreadable_picture", f"{name}: {error}")
        if look.too_thin:
            return Left("stretched_picture", thinness(name, look.width, look.height))
        notes = frozenset(notes_on(look))
        return Good(self._path(self._store.add(data)) if look.changed else str(path), notes)

    def _path(self, name: str) -> str:
        return str(self._store.folder.resolve() / name)
