"""Ask a teacher about a shard of the solutions, resumed at the call.

OUT/shard-000.jsonl          the rows that its answers come to, written at once when all are there
OUT/shard-000.report.json    counts, and what was left out, by cause
OUT/calls/shard-000.jsonl    the raw answers as they arrive, known by what was asked and by the try
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from proxygrm.core.bad_row import BadRow
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_json
from proxygrm.critique.prompts import prompt_hash
from proxygrm.evaluate.judges.base import Calls, Progress
from proxygrm.evaluate.judges.endpoint import Unanswered
from proxygrm.evaluate.judges.engine import Request
from proxygrm.evaluate.process.teach.asks import PROMPTS, Asks, Inputs, Item, Shard, items_of
from proxygrm.evaluate.rows.row_file import Row, RowFile, write_rows
from proxygrm.serving.chat.answer import DECLINED, FILTERED

LISTED = 50
NO_ANSWER = "no_answer"
A_HANDFUL = 5
"""That a shard of fewer has no usable answer means nothing."""


@dataclass(frozen=True)
class TeachReport:
    asks: str
    model: str
    shard: str
    asked: int
    """Solutions, or images and questions, that the teacher was asked about."""
    written: int
    left_out: dict[str, int]
    """Cause -> what has no row: there was nothing to ask, or no try brought a usable answer (cause of the last)."""
    left_out_ids: list[str]
    """Of solutions; the first 50."""
    tries: dict[str, int]
    """How many tries it took -> rows."""
    unusable: dict[str, int]
    """Cause -> answers that were not used, of all tries."""
    notes: dict[str, int]
    """What is remarkable about rows."""
    prompt: str
    """Hash of the instruction."""
    seconds: float


@dataclass(frozen=True)
class Teaching:
    """What is asked, about what, and how often."""

    asks: Asks
    given: Inputs
    out: Path
    """The folder of the shards."""
    model: str
    """How rows name the teacher."""
    tries: int = 3
    """At the most, each with another seed, until an answer can be used."""
    max_tokens: int = 4096
    seed: int = 0
    max_failed: float = 0.02
    """Share of calls that may get no answer at all; more end the run."""
    index: int = 0
    """Of the shard, from 0."""
    shards: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.shards:
            raise UserError(
                f"shard {self.index} of {self.shards} does not exist; shards are numbered 0 to {self.shards - 1}",
                code="teacher.no-such-shard", shard=self.index, shards=self.shards,
            )  # fmt: skip
        read = [path if path.is_dir() else path.parent for path in self.given.paths]
        if self.out.resolve() in [folder.resolve() for folder in read]:
            raise UserError(
                f"--out {self.out} holds what is read, which the answers would take the place of; give another folder",
                code="option.bad-out", path=self.out,
            )  # fmt: skip


def teach(teaching: Teaching, calls: Calls, progress: Progress) -> TeachReport:
    """Write the shard and its report.

    UserError when more calls get no answer than are allowed (the others are kept, and the next run asks for the rest),
    when an answer file comes from another teacher, instruction, setting or shard, and when of more than a handful no
    row is left.
    """
    started = time.monotonic()
    shard = Shard(teaching.index, teaching.shards)
    items = items_of(teaching.asks, teaching.given, shard, teaching.seed)
    name, prompt = f"shard-{teaching.index:03d}", PROMPTS[teaching.asks]
    made_by = calls.made_by(prompt, teaching.max_tokens) | {"asks": teaching.asks, "shard": str(shard)}
    with RowFile(teaching.out / "calls" / f"{name}.jsonl", made_by) as file:
        tries = Tries(items, teaching.tries, teaching.max_tokens, {row["key"]: row for row in file.rows})
        failed = _answer(tries, calls, file, teaching.max_failed, progress)
    rows = [(item, *tries.outcome(item)) for item in items]
    for item, row, _ in rows:
        if row is None:
            shard.leave_out(tries.cause(item) or NO_ANSWER, item.name)
    usable = [(item, row, count) for item, row, count in rows if row is not None]
    if not usable and (teaching.shards == 1 or len(items) >= A_HANDFUL):
        raise UserError(
            f"{teaching.asks}, shard {shard}: no row is left ({_counts(shard.left_out) or 'there are no solutions'}); "
            f"the answers are in {teaching.out / 'calls'}",
            code="teacher.nothing-usable", shard=str(shard), left_out=dict(shard.left_out),
        )  # fmt: skip
    write_rows(teaching.out / f"{name}.jsonl", [row | {"model": teaching.model} for _, row, _ in usable])
    report = TeachReport(
        asks=teaching.asks,
        model=teaching.model,
        shard=str(shard),
        asked=len(items),
        written=len(usable),
        left_out=_sorted(shard.left_out),
        left_out_ids=shard.left_out_ids[:LISTED],
        tries=_sorted(Counter(str(count) for _, _, count in usable)),
        unusable=_sorted(tries.unusable() + Counter({NO_ANSWER: failed})),
        notes=_sorted(Counter(note for item, row, _ in usable for note in item.notes(row))),
        prompt=prompt_hash(prompt),
        seconds=round(time.monotonic() - started, 3),
    )
    write_json(teaching.out / f"{name}.report.json", asdict(report))
    return report


class Tries:
    """Which calls the items need: one each, and another one for each answer that cannot be used."""

    def __init__(self, items: Sequence[Item], most: int, max_tokens: int, answers: dict[str, Row]) -> None:
        self.items, self.most, self.max_tokens, self.answers = items, most, max_tokens, answers
        self._equal = Counter(item.key for item in items)
        self._running: dict[str, Item] = {}
        self._again = deque[Item]()

    @property
    def finished(self) -> int:
        return sum(self._next(item) is None for item in self.items)

    def requests(self) -> Iterator[Request | None]:
        """The calls that have no answer; None while those that are running decide what else is to be asked."""
        remaining = iter(self.items)
        while True:
            item = self._again.popleft() if self._again else next(remaining, None)
            if item is None:
                if not self._running:
                    return
                yield None
            elif (request := self._next(item)) and request.key not in self._running:
                self._running[request.key] = item
                yield request

    def take(self, row: Row) -> int:
        """An answer has arrived; the number of items that need no other one now."""
        self.answers[row["key"]] = row
        item = self._running.pop(row["key"])
        if self._next(item) is None:
            return self._equal[item.key]
        self._again.append(item)
        return 0

    def outcome(self, item: Item) -> tuple[Row | None, int]:
        """(the row, None where no answer was usable; how many tries it took)."""
        for number, answer in enumerate(self._answers(item), 1):
            try:
                return item.row(answer), number
            except BadRow:
                continue
        return None, 0

    def cause(self, item: Item) -> str:
        """Why the last answer cannot be used; "" where there is none."""
        causes = self._causes(item)
        return causes[-1] if causes else ""

    def unusable(self) -> Counter[str]:
        """Cause -> answers. Those of equal questions count once."""
        by_key = {item.key: item for item in self.items}
        return Counter(cause for item in by_key.values() for cause in self._causes(item))

    def _causes(self, item: Item) -> list[str]:
        causes = []
        for answer in self._answers(item):
            try:
                item.row(answer)
                break
            except BadRow as error:
                causes.append(error.cause)
        return causes

    def _answers(self, item: Item) -> list[Row]:
        """Of the tries so far."""
        keys = (_key(item, number) for number in range(1, self.most + 1))
        return [self.answers[key] for key in keys if key in self.answers]

    def _next(self, item: Item) -> Request | None:
        """None where an answer is usable, no try is left, or another one is of no use."""
        answers = self._answers(item)
        if self.outcome(item)[0] is not None or len(answers) >= self.most or any(map(_is_final, answers)):
            return None
        return Request(_key(item, len(answers) + 1), item.text, item.images, self.max_tokens)


def _answer(tries: Tries, calls: Calls, file: RowFile, max_failed: float, progress: Progress) -> int:
    """How many calls got no answer."""
    pending, total, done = tries.requests(), len(tries.items), tries.finished
    progress(done, total, f"loading {calls.name}" if done < total else "")
    if done == total:
        return 0

    def take(row: Row) -> None:
        nonlocal done
        file.append(row)
        done += tries.take(row)
        progress(done, total, f"asking {calls.name}")

    works = any(row["problem"] is None for row in file.rows)
    most = max(len(item.images) for item in tries.items)
    try:
        calls.answer(pending, total - done, most, take, works)
    except Unanswered as error:
        failed = int(error.values["count"])
        if error.values["early"] or failed > max_failed * total:
            raise
        return failed
    return 0


def _key(item: Item, number: int) -> str:
    """Of a try. Its seed follows from it."""
    return item.key if number == 1 else f"{item.key}#{number}"


def _is_final(answer: Mapping[str, object]) -> bool:
    """Whether the service takes no such prompt; a model that declined may answer with another seed."""
    return bool(answer["problem"]) and answer.get("cause") not in (DECLINED, FILTERED)


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in sorted(counts.items()) if count}


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in _sorted(counts).items())
