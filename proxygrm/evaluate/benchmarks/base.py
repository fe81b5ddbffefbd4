"""What a benchmark is to the scorer: its categories, its official metric, its sizes, and the partitions in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

POLICIES = ("wrong", "drop", "official", "recorded")


class Facts(NamedTuple):
    """What a category may depend on, of one row."""

    id: str  # the release's own id
    category: str  # the row's own category field, "" when it has none
    path: str  # of the first picture or the video, "" when the row has none
    lower_id: str  # upstream's scripts look for the field `id`, not `ID`: "" when a row has only the latter


@dataclass(frozen=True)
class Partition:
    """One way of cutting the rows. `category` returns None when a row lacks what it takes."""

    category: Callable[[Facts], str | None]
    about: str
    names: tuple[str, ...] = ()  # in the order shown; others follow by name
    needs: str = ""  # what a row must have, for the error
    macro_with_all: bool = False  # the macro averages the overall in again
    sizes: Mapping[str, int] = field(default_factory=dict)  # rows of each category in the first revision


@dataclass(frozen=True)
class Revision:
    name: str
    rows: int
    ids: int | None = None  # distinct ids, where known
    sizes: Mapping[str, int] = field(default_factory=dict)  # official category -> rows, where known


@dataclass(frozen=True)
class Benchmark:
    name: str
    title: str
    partitions: Mapping[str, Partition]  # the first one is the default, "official"
    official: str  # what the official script makes of unparsed verdicts and ties: "wrong", "drop", "half"
    official_about: str
    revisions: tuple[Revision, ...] = ()
    evidence: Callable[[Facts], bool] = lambda facts: False  # can only be a row of this benchmark
    acc_plus: bool = False  # report the share of ids (groups) with every pair right
    splits: Callable[[Facts], str | None] | None = None  # finer groups, reported beside the categories

    @property
    def sizes(self) -> str:
        """The row counts there are, for messages: "1,250 or 1,247"."""
        return " or ".join(f"{revision.rows:,}" for revision in self.revisions)

    def revision(self, rows: int) -> Revision | None:
        return next((revision for revision in self.revisions if revision.rows == rows), None)
