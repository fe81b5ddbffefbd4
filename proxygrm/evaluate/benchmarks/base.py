"""What the scorer knows of a benchmark: its categories, official metric, sizes, and the partitions in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

POLICIES = ("wrong", "drop", "official", "recorded")


class Facts(NamedTuple):
    """What a category may depend on, of one row."""

    id: str  # the release's own id
    category: str  # the row's own category field, "" when it has none
    path: str  # of the first image or the video, "" when the row has none
    lower_id: str  # upstream's scripts look for the field `id`, not `ID`: "" when a row has only the latter


@dataclass(frozen=True)
class Partition:
    """One way of grouping rows into categories. `category` returns None when a row lacks the field it needs."""

    category: Callable[[Facts], str | None]
    about: str
    names: tuple[str, ...] = ()  # in display order; others follow by name
    needs: str = ""  # what a row must have, for the error
    macro_with_all: bool = False  # the macro average includes the overall as one more group
    sizes: Mapping[str, int] = field(default_factory=dict)  # rows of each category in the first revision
    stratum: Callable[[Facts], str | None] | None = None
    """The part of its category that a row is in: a category is the weighted mean of its parts. None: no parts."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of the parts, 1 for those not listed. Parts without rows are left out."""


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
    official: str  # how the official script counts unparsed verdicts and ties: "wrong", "drop", "half", "half-unparsed"
    official_about: str
    revisions: tuple[Revision, ...] = ()
    evidence: Callable[[Facts], bool] = lambda facts: False  # the row can only belong to this benchmark
    acc_plus: bool = False  # report the share of ids (groups) with every pair right
    splits: Callable[[Facts], str | None] | None = None  # finer groups, reported besides the categories
    images: bool = True  # every row has an image or a video
    videos: bool = False  # some rows have a video, which is judged by 32 of its frames
    headline: str = "overall"  # what papers print: "overall" (share of the pairs) or "macro" (mean of the categories)
    trial: Callable[[Facts], str] | None = None
    """What intervals count as one independent trial, where several pairs share responses. None: the pair."""
    views: tuple[str, ...] = ()  # partitions that are reported besides the chosen one

    @property
    def sizes(self) -> str:
        """The revisions' row counts, for messages: "1,250 or 1,247"."""
        return " or ".join(f"{revision.rows:,}" for revision in self.revisions)

    def has_source(self, source: str) -> bool:
        """Whether a pair's `source` names this benchmark."""
        return source.replace("-", "_").startswith(self.name.replace("-", "_"))

    def revision(self, rows: int) -> Revision | None:
        return next((revision for revision in self.revisions if revision.rows == rows), None)
