"""What a teacher has written about the solutions of a folder: JSONL files, read by key. Their texts stay on the disk.

descriptions     {"question", "image", "image_description"}, one for each question and its images
contradictions   the same, with errors planted in the description
judgements       {"id", "steps": [{"step", "score", "category", "visualdependency"}, ...]}, one for each solution
audits           {"id", "checklist", "against", "image_description", "audit": {...}}, one for each solution

Each row also names the `model` that wrote it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from proxygrm.core.bad_row import BadRow
from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import fault_of, value_of
from proxygrm.core.ids import loads
from proxygrm.core.unicode_text import check_unicode
from proxygrm.process.judgements import Judged, checked_audit, judged_steps
from proxygrm.process.solutions import Solution
from proxygrm.process.stages import DESCRIPTION

SHARDS = "shard-*.jsonl"
UNNAMED = "unnamed"
"""The model of rows that do not name one."""
Against = Literal["description", "contradiction"]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Audited:
    """A teacher's audit of a solution's checklist."""

    checklist: str
    against: Against
    """Which of the two texts the checklist was compared with."""
    description: str
    """That text."""
    audit: dict[str, Any]
    """{errors_and_hallucinations, omissions, p_score}"""


@dataclass(frozen=True)
class Kind(Generic[Value]):
    """What the rows of a file are."""

    name: str
    key: Callable[[Mapping[str, Any]], str]
    """What a row is known by. Raises BadRow."""
    value: Callable[[Mapping[str, Any]], Value]
    """Raises BadRow."""


def picture_key(question: str, images: Sequence[str]) -> str:
    """Of a question about images; line breaks and blanks of the question do not count (`Solution.key`)."""
    text = "\0".join((" ".join(question.split()), *images))
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:32]


def key_of(solution: Solution) -> str:
    """Of its description."""
    return picture_key(solution.question, solution.images)


class _Place(NamedTuple):
    file: int
    offset: int
    row: int


class TeacherRows(Generic[Value]):
    """The rows of a file, or of a folder of `shard-*.jsonl`. Memory: about 0.3 kB per row.

    UserError for a path without rows, a row that is cut off or has no key, one that another row repeats, and rows of
    several models.
    """

    def __init__(self, source: Path, kind: Kind[Value]) -> None:
        self.source, self.kind = source, kind
        self.files = [source] if source.is_file() else sorted(source.glob(SHARDS))
        if not self.files:
            raise UserError(
                f"{source} is neither a file nor a folder with {SHARDS}; give the {kind.name} that a teacher wrote",
                code="teacher.no-rows", path=source,
            )  # fmt: skip
        self.model = ""
        self._places: dict[str, _Place] = {}
        for number, file in enumerate(self.files):
            self._index(number, file)
        if not self._places:
            raise UserError(f"{source} has no {kind.name}; run the teacher again", code="teacher.no-rows", path=source)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        """The keys, in the order of files and rows."""
        return iter(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def get(self, key: str) -> Value | None:
        """UserError (teacher.bad-row) for a row whose value is not of the kind."""
        if key not in self._places:
            return None
        place = self._places[key]
        with self.files[place.file].open("rb") as file:
            file.seek(place.offset)
            row = value_of(file.readline())
        try:
            check_unicode(row, "it")
            return self.kind.value(row)
        except BadRow as error:
            raise self._bad_row(self.files[place.file], place.row, error) from error

    def _index(self, number: int, path: Path) -> None:
        offset = 0
        with path.open("rb") as file:
            for at, line in enumerate(file, 1):
                if line.strip():
                    self._add(path, line, _Place(number, offset, at))
                offset += len(line)

    def _add(self, path: Path, line: bytes, place: _Place) -> None:
        at = place.row
        try:
            row = loads(line)
        except ValueError:
            row = _unusual(path, at, line)
        try:
            if not isinstance(row, dict):
                raise BadRow("not_an_object", f"it is {type(row).__name__}, not an object")
            key = self.kind.key(row)
        except BadRow as error:
            raise self._bad_row(path, at, error) from error
        model = str(row.get("model") or UNNAMED)
        if self.model not in ("", model):
            raise UserError(
                f"{path} row {at} was written by {model}, rows before it by {self.model}; keep the {self.kind.name} of "
                "each teacher in a folder of their own",
                code="teacher.mixed-models", path=path, row=at, models=[self.model, model],
            )  # fmt: skip
        if key in self._places:
            raise UserError(
                f"{path} row {at} repeats what another row of {self.source} is about; remove the shards of an earlier "
                "run, or one of the rows",
                code="teacher.repeated-row", path=path, row=at,
            )  # fmt: skip
        self.model = model
        self._places[key] = place

    def _bad_row(self, path: Path, at: int, error: BadRow) -> UserError:
        return UserError(
            f"{path} row {at} is not one of the {self.kind.name}: {error}; remove it, or run the teacher again",
            code="teacher.bad-row", path=path, row=at, cause=error.cause,
        )  # fmt: skip


def _unusual(path: Path, at: int, line: bytes) -> Any:
    """A row with NaN or a lone surrogate. UserError for what is not JSON."""
    try:
        return value_of(line)
    except ValueError as error:
        raise UserError(
            f"{path} row {at} is {fault_of(line)} ({error}); run the teacher of this shard again",
            code="file.bad-row", path=path, row=at,
        ) from error  # fmt: skip


def judged_of(rows: TeacherRows[list[tuple[str, Judged]]], solution: Solution) -> list[Judged] | None:
    """The judgements of its steps. UserError (teacher.other-solutions) where they are about other steps."""
    judged = rows.get(solution.id)
    if judged is None:
        return None
    if tuple(text for text, _ in judged) != solution.steps:
        raise UserError(
            f"{rows.source}: the judgements of {solution.id!r} are about other steps than those of the solution; give "
            "those of these solutions, or have them judged again",
            code="teacher.other-solutions", path=rows.source, id=solution.id,
        )  # fmt: skip
    return [each for _, each in judged]


def _of_images(row: Mapping[str, Any]) -> str:
    images = row.get("image")
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise BadRow("bad_image", "image must be a list of paths")
    return picture_key(_text(row, "question"), images)


def _of_solution(row: Mapping[str, Any]) -> str:
    return _text(row, "id")


def _audited(row: Mapping[str, Any]) -> Audited:
    against = row.get("against")
    if against not in ("description", "contradiction"):
        raise BadRow("bad_against", f"against is {against!r:.40}, it must be description or contradiction")
    return Audited(_text(row, "checklist"), against, _text(row, DESCRIPTION), checked_audit(row.get("audit")))


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"bad_{name}", f"{name} is {value!r:.40}, it must be text")
    return value


def _description(row: Mapping[str, Any]) -> str:
    return _text(row, DESCRIPTION)


def _steps(row: Mapping[str, Any]) -> list[tuple[str, Judged]]:
    return judged_steps(row.get("steps"))


DESCRIPTIONS = Kind("descriptions", _of_images, _description)
CONTRADICTIONS = Kind("contradictions", _of_images, _description)
JUDGEMENTS = Kind("judgements", _of_solution, _steps)
AUDITS = Kind("audits", _of_solution, _audited)
