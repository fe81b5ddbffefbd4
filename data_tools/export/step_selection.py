"""Which rows of process reward's sets are kept, and which are held off for validation.

Both follow from the seed and the rows' ids and images alone. Images that are in one row together are held off together.
Memory: about 20 bytes per row, and 0.2 kB per image.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from data_tools.ingest.part import key_of
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import whole_files

VALIDATION = "_val"
Lines = Mapping[str, Sequence[Path]]
"""Name of a set -> the files that together have its rows."""


class Images:
    """Groups of images: two that are in one row are in one group."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self._leader = array("q")

    def add(self, names: Sequence[str]) -> int:
        """The number of the first one."""
        numbers = [self._number(name) for name in names]
        for number in numbers[1:]:
            self._leader[self.group(number)] = self.group(numbers[0])
        return numbers[0]

    def group(self, number: int) -> int:
        while (leader := self._leader[number]) != number:
            self._leader[number] = self._leader[leader]
            number = leader
        return number

    def held_off(self, share: float, seed: int) -> set[int]:
        """The groups that this share of the images is in, at least one; none where the share is 0."""
        members: dict[int, list[str]] = {}
        for name, number in self.numbers.items():
            members.setdefault(self.group(number), []).append(name)
        drawn = sorted(members, key=lambda group: _drawn(seed, min(members[group])))
        held, count = set[int](), 0
        for group in drawn if share else ():
            count += len(members[group])
            if held and count > round(share * len(self.numbers)):
                break
            held.add(group)
        return held

    def _number(self, name: str) -> int:
        number = self.numbers.setdefault(name, len(self.numbers))
        if number == len(self._leader):
            self._leader.append(number)
        return number


class Rows:
    """What decides about the rows of a set."""

    def __init__(self, files: Sequence[Path], images: Images, seed: int) -> None:
        self.image, self.verdict, drawn = array("q"), array("b"), array("Q")
        for row in map(orjson.loads, _lines(files)):
            self.image.append(images.add([Path(image).name for image in row["images"]]))
            answer = row["messages"][-1]["content"]
            self.verdict.append(int(answer) if answer in ("1", "-1") else 0)
            drawn.append(key_of(str(seed), row["id"]))
        self.order = np.argsort(np.frombuffer(drawn, dtype=np.uint64), kind="stable") if drawn else np.zeros(0, int)
        """Positions in a drawn order."""

    def kept(self, side: np.ndarray, balance: float, most: int) -> np.ndarray:
        """Which rows of a side are kept. side, result: a truth value for each row."""
        order = self.order[side[self.order]]
        verdicts = np.frombuffer(self.verdict, dtype=np.int8)[order] if len(order) else np.zeros(0, np.int8)
        if balance and verdicts.any():
            by_verdict = [np.flatnonzero(verdicts == verdict) for verdict in (1, -1)]
            limit = int(balance * min(map(len, by_verdict)))
            order = order[np.sort(np.concatenate([positions[:limit] for positions in by_verdict]))]
        kept: np.ndarray = np.zeros(len(self.image), dtype=bool)
        kept[order[: most or None]] = True
        return kept


def write_selected(
    parts: Lines, out: Path, *, balance: float, max_rows: int, validation: float, seed: int, joined: Mapping[str, str]
) -> dict[str, Any]:
    """Write OUT/NAME.jsonl of each set, and OUT/NAME_val.jsonl where images are held off; returns the counts.

    balance: of the sets of verdicts. joined: set -> another one whose rows are in its file too. UserError
    (data.empty-set): nothing is written.
    """
    images = Images()
    sets = {name: Rows(files, images, seed) for name, files in parts.items()}
    held = images.held_off(validation, seed)
    sides = {"": False, **({VALIDATION: True} if validation else {})}
    masks: dict[str, np.ndarray] = {}
    for name, rows in sets.items():
        on_hold = np.fromiter((images.group(number) in held for number in rows.image), bool, len(rows.image))
        for suffix, wanted in sides.items():
            most = max(1, round(max_rows * validation)) if wanted and max_rows else max_rows
            masks[name + suffix] = rows.kept(on_hold == wanted, balance, most)
    counts = {name: int(mask.sum()) for name, mask in masks.items()}
    if empty := [name for name, count in counts.items() if not count]:
        raise UserError(
            f"no row is left for {empty[0]}, with {len(images.numbers):,} images of which the share {validation:g} is "
            "for validation; look at what was left out in dropped.jsonl, or change that share, 0 holds none off",
            code="data.empty-set", name=empty[0], rows=counts,
        )  # fmt: skip
    held_off = sum(images.group(number) in held for number in images.numbers.values())
    verdicts = {name: _verdicts(sets[name.removesuffix(VALIDATION)], mask) for name, mask in masks.items()}
    with whole_files(out) as scratch:
        for suffix in sides:
            for name in sets:
                with (scratch / f"{name}{suffix}.jsonl").open("wb") as file:
                    for each in (name, *([joined[name]] if name in joined else [])):
                        file.writelines(_chosen(parts[each], masks[each + suffix]))
    return {
        "rows": {name: count + counts.get(_joined(name, joined), 0) for name, count in counts.items()},
        "verdicts": {name: counts for name, counts in verdicts.items() if counts},
        "images": {"all": len(images.numbers), "held_off": held_off},
    }


def _joined(name: str, joined: Mapping[str, str]) -> str:
    """The other set that is in the file of this one."""
    base = name.removesuffix(VALIDATION)
    return joined[base] + name[len(base) :] if base in joined else ""


def _verdicts(rows: Rows, mask: np.ndarray) -> dict[str, int]:
    counts = Counter(int(v) for v in np.frombuffer(rows.verdict, dtype=np.int8)[mask]) if len(mask) else Counter()
    return {str(verdict): counts[verdict] for verdict in (1, -1) if counts[verdict]}


def _chosen(files: Sequence[Path], mask: np.ndarray) -> Iterator[bytes]:
    return (line for line, kept in zip(_lines(files), mask, strict=True) if kept)


def _lines(files: Iterable[Path]) -> Iterator[bytes]:
    for path in files:
        with path.open("rb") as file:
            yield from file


def _drawn(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode(errors="backslashreplace")).digest()
