"""Row accounting of a step: how many rows were read and kept, and the file, row number, id and reason of the others.

A row is excluded for a reason of one of two kinds. *Bad* rows are broken (no text, unreadable image, not JSON); a
step with a larger share of them than `max_bad` fails. *Dropped* rows are intact but unwanted (a tie, a duplicate, what
a filter is for).
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import WholeFileWriter, whole_file, writing


@dataclass(frozen=True)
class RowLocation:
    """Where a row came from: the file, and its row number in it (from 1; lines for JSONL)."""

    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file} row {self.row}"


class TooManyBadRows(UserError):
    """More rows are bad than `--max-bad` allows."""

    code = "data.too-many-bad-rows"


class Account(WholeFileWriter):
    """Counts rows, and writes one JSON line to `log` for every excluded row: {file, row, id, reason, bad, detail}.

    The log appears under its name when the `with` block ends without an error; `check` is called first. If that fails,
    the log is written to `refused` instead, so that the user can fix those rows.
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
        except TooManyBadRows:
            with whole_file(self.refused) as copy:
                shutil.copyfile(scratch, copy)
            raise
        self.refused.unlink(missing_ok=True)

    def exclude(self, where: RowLocation, row_id: str, reason: str, *, bad: bool, detail: str = "") -> None:
        """Count a row that is not kept. `reason` is one of a fixed set of words; `detail` is free text."""
        (self.bad if bad else self.dropped)[reason] += 1
        if bad and not self.first_bad:
            self.first_bad = _describe(where, row_id, reason, detail)
        line = {"file": where.file, "row": where.row, "id": row_id, "reason": reason, "bad": bad, "detail": detail}
        with writing(self.path):
            self._file.write(json.dumps(line) + "\n")

    def absorb(self, summary: Path, log: Path) -> None:
        """Add the counts of a shard (its `summary()` as JSON) and its log."""
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
                    where = RowLocation(row["file"], row["row"])
                    self.first_bad = _describe(where, row["id"], row["reason"], row["detail"])

    def check(self) -> None:
        """Raise TooManyBadRows when more rows are bad than `max_bad` (a share of the rows read) allows."""
        bad = sum(self.bad.values())
        if bad > self.max_bad * self.read:
            reasons = ", ".join(f"{reason} {count}" for reason, count in self.bad.most_common())
            raise TooManyBadRows(
                f"{bad} of {self.read} rows are bad, more than --max-bad {self.max_bad:g} allows: {reasons}. "
                f"First: {self.first_bad}. {self.refused} lists them all; fix the file, or raise --max-bad",
                bad=bad, read=self.read, max_bad=self.max_bad, reasons=dict(self.bad), first=self.first_bad,
                log=self.refused,
            )  # fmt: skip

    def nothing_kept(self, path: Path) -> UserError:
        """The error for an input without a single usable row."""
        excluded = dict(sorted(self.bad.items())) | dict(sorted(self.dropped.items()))
        return UserError(
            f"none of {self.read} rows of {path} could be used ({excluded})",
            code="data.no-usable-rows", path=path, read=self.read, excluded=excluded,
        )  # fmt: skip

    def summary(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "kept": self.kept,
            **{
                name: {k: v for k, v in sorted(getattr(self, name).items()) if v}
                for name in ("bad", "dropped", "notes")
            },
        }


def _describe(where: RowLocation, row_id: str, reason: str, detail: str) -> str:
    return f"{where} ({row_id or 'no id'}): {reason}{f', {detail}' if detail else ''}"
