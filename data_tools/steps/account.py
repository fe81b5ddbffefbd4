"""Book-keeping of a step: rows in, rows out, and where every other row went, with file, row number, id and reason.

A row leaves for a reason of one of two kinds. *Bad* rows are broken (no text, unreadable picture, not JSON);
more than `max_bad` of them ends the step with an error. *Dropped* rows are whole but not wanted (a tie, a
duplicate, what a filter is for).
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import WholeFileWriter, whole_file, writing


@dataclass(frozen=True)
class Where:
    """Where a row came from: the file, and its row number there (from 1; lines for JSONL)."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file} row {self.row}"


class TooManyBad(UserError):
    """More rows are broken than the user allows."""


class Account(WholeFileWriter):
    """Counts, and one JSON line in `log` for every row that left: {file, row, id, reason, bad, detail}.

    The log appears under its name at a clean exit of the `with` block; `check` is called before. Where that refuses,
    the log stands beside, under the name of `refused`, for whoever has to mend those rows.
    """

    def __init__(self, log: Path, max_bad: float = 0.01) -> None:
        super().__init__(log)
        self.max_bad = max_bad
        self.read = self.kept = 0
        self.bad, self.dropped, self.notes = Counter[str](), Counter[str](), Counter[str]()
        self.first_bad = ""

    @property
    def refused(self) -> Path:
        return self.path.with_suffix(".refused.jsonl")

    @contextmanager
    def _opened(self, scratch: Path) -> Iterator[None]:
        try:
            with scratch.open("w", encoding="utf-8") as self._file:
                yield
            self.check()
        except TooManyBad:
            with whole_file(self.refused) as copy:
                shutil.copyfile(scratch, copy)
            raise
        self.refused.unlink(missing_ok=True)

    def leave(self, where: Where, row_id: str, reason: str, *, bad: bool, detail: str = "") -> None:
        """Count a row that is not kept. `reason` is one of a closed set of words; `detail` is for people."""
        (self.bad if bad else self.dropped)[reason] += 1
        if bad and not self.first_bad:
            self.first_bad = _describe(where, row_id, reason, detail)
        line = {"file": where.file, "row": where.row, "id": row_id, "reason": reason, "bad": bad, "detail": detail}
        with writing(self.path):
            self._file.write(json.dumps(line) + "\n")

    def absorb(self, summary: Path, log: Path) -> None:
        """Add the account of a shard: its `summary()` as JSON, and its log."""
        for key, value in json.loads(summary.read_text(encoding="utf-8")).items():
            if isinstance(value, dict):
                getattr(self, key).update(value)
            else:
                setattr(self, key, getattr(self, key) + value)
        with writing(self.path), log.open(encoding="utf-8") as lines:
            for line in lines:
                self._file.write(line)
                if not self.first_bad and '"bad": true' in line:
                    row = json.loads(line)
                    where = Where(row["file"], row["row"])
                    self.first_bad = _describe(where, row["id"], row["reason"], row["detail"])

    def check(self) -> None:
        """Raise TooManyBad when more rows are bad than `max_bad` (a share of the rows read) allows."""
        broken = sum(self.bad.values())
        if broken > self.max_bad * self.read:
            reasons = ", ".join(f"{reason} {count}" for reason, count in self.bad.most_common())
            raise TooManyBad(
                f"{broken} of {self.read} rows are bad, more than --max-bad {self.max_bad:g} allows: {reasons}. "
                f"First: {self.first_bad}. All stand in {self.refused}; mend the file, or allow more with --max-bad"
            )

    def summary(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "kept": self.kept,
            **{
                name: {k: v for k, v in sorted(getattr(self, name).items()) if v}
                for name in ("bad", "dropped", "notes")
            },
        }


def _describe(where: Where, row_id: str, reason: str, detail: str) -> str:
    return f"{where} ({row_id or 'no id'}): {reason}{f', {detail}' if detail else ''}"


def add_up(summaries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One summary of many shards'."""
    total: dict[str, Any] = {"read": 0, "kept": 0, "bad": Counter(), "dropped": Counter(), "notes": Counter()}
    for summary in summaries:
        for key, value in summary.items():
            if isinstance(value, dict):
                total[key].update(value)
            else:
                total[key] += value
    return {key: dict(sorted(value.items())) if isinstance(value, Counter) else value for key, value in total.items()}
