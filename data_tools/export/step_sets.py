"""Solutions and what a teacher wrote about them -> the training sets of process reward, as a step in shards.

OUT/vision_sft.jsonl   describe the image; OUT/vision_dpo.jsonl the same with a rejected answer
OUT/step_judge.jsonl   judge a step; where the judge learns to audit too, the audits
OUT/audit.jsonl        audit claims
OUT/*_val.jsonl        rows of images that are in none of the sets above
OUT/report.json        counts by cause; OUT/dropped.jsonl one line for each solution, step or audit that is left out

The rows do not depend on the number of shards. No image is both trained on and validated on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from data_tools.export.step_rows import (
    PROMPTS,
    StepSetOptions,
    audit_row,
    contradiction_row,
    description_row,
    line_of,
    step_rows,
)
from data_tools.export.step_selection import VALIDATION, write_selected
from data_tools.steps.account import Account, RowLocation
from data_tools.steps.shards import Shard, Step, carry_out, stamp_of
from proxygrm.core.errors import UserError
from proxygrm.core.files.output_file import check_output
from proxygrm.core.files.whole_file import whole_file, write_json, writing
from proxygrm.critique.prompts import prompt_hash
from proxygrm.process import teacher_rows
from proxygrm.process.judgements import Judged, same_text
from proxygrm.process.solutions import SOLUTIONS, Solution, check_solutions, read_solutions
from proxygrm.process.teacher_rows import SHARDS, Audited, TeacherRows, judged_of, key_of

VISION_SFT, VISION_DPO, STEP_JUDGE, AUDIT = SETS = ("vision_sft", "vision_dpo", "step_judge", "audit")
REPORT, DROPPED = "report.json", "dropped.jsonl"


@dataclass(frozen=True)
class Sources:
    """Where everything is."""

    solutions: Path
    descriptions: Path
    judgements: Path | None = None
    contradictions: Path | None = None
    audits: Path | None = None

    def resolved(self) -> Sources:
        """The same for a job that starts in another folder."""
        paths = {each.name: getattr(self, each.name) for each in fields(self)}
        return Sources(**{name: path and path.resolve() for name, path in paths.items()})

    @property
    def files(self) -> list[Path]:
        """All files that the rows are made of."""
        given = [path for path in (self.descriptions, self.judgements, self.contradictions, self.audits) if path]
        shards = [path if path.is_file() else sorted(path.glob(SHARDS)) for path in given]
        return [self.solutions / SOLUTIONS, *chain.from_iterable([s] if isinstance(s, Path) else s for s in shards)]


@dataclass(frozen=True)
class Job:
    """What to write; picklable, because shards run in separate processes."""

    sources: Sources
    out: Path
    options: StepSetOptions
    validation: float
    total: int
    """Solutions."""

    @property
    def sets(self) -> tuple[str, ...]:
        return sets_of(self.options, self.sources.contradictions is not None, validation=0)


def sets_of(options: StepSetOptions, contradictions: bool, validation: float) -> tuple[str, ...]:
    """The names of the files that a step writes, without .jsonl."""
    names = [VISION_SFT, *([VISION_DPO] if contradictions else []), STEP_JUDGE]
    names += [AUDIT] if options.auditor != "none" else []
    return (*names, *(f"{name}{VALIDATION}" for name in names if validation))


def step_sets_step(
    sources: Sources, out: Path, options: StepSetOptions, *, validation: float = 0.01, max_bad: float = 0.01
) -> Step:
    """The step that writes the sets into the folder `out`. validation: share of the images. Raises UserError for
    options out of bounds, or without what they need."""
    check_sources(sources, options, validation)
    check_solutions(sources.solutions)
    if out.resolve() == sources.solutions.resolve():
        raise UserError(f"--out {out} must be another folder than the solutions'", code="option.bad-out", path=out)
    for name in (*sets_of(options, sources.contradictions is not None, validation), Path(DROPPED).stem):
        check_output(out / f"{name}.jsonl", sources.files, "--out")
    with (sources.solutions / SOLUTIONS).open("rb") as file:
        total = sum(bool(line.strip()) for line in file)
    job = Job(sources.resolved(), out, options, validation, total)
    made_from = (options, validation, str(out.resolve()), job.sets, tuple(map(prompt_hash, PROMPTS)))
    return Step(
        "step-sets", out, REPORT, stamp_of(made_from, sources.files),
        run=partial(_run, job), done=partial(_done, job), merge=partial(_merge, job, max_bad),
        result=out / f"{STEP_JUDGE}.jsonl",
    )  # fmt: skip


def write_step_sets(sources: Sources, out: Path, options: StepSetOptions, **more: Any) -> dict[str, Any]:
    """Run `step_sets_step` with these options in this process (for small data), and return the report."""
    return carry_out(step_sets_step(sources, out, options, **more), 1, workers=1)


def check_sources(sources: Sources, options: StepSetOptions, validation: float) -> None:
    """UserError where the options ask for what is not given, or what is given has no use."""
    check_validation(validation)
    audits, judged = options.auditor != "none", sources.judgements is not None
    problem = ""
    if audits != (sources.audits is not None):
        problem = f"auditor {options.auditor} " + ("needs audits" if audits else "has no use for audits")
    elif (audits or options.labels == "teacher") and not judged:
        problem = f"{'audits' if audits else 'labels teacher'} needs judgements"
    if problem:
        raise UserError(
            f"step sets: {problem}; give them, or change the option", code="settings.contradiction",
            auditor=options.auditor, labels=options.labels,
        )  # fmt: skip


def check_validation(validation: float) -> None:
    """UserError where the share is out of its bounds."""
    if not 0 <= validation < 1:
        raise UserError(
            f"validation is {validation}; it is the share of the images that are not trained on, from 0 to below 1",
            code="settings.out-of-range", name="validation", value=validation,
        )  # fmt: skip


def _paths(job: Job, shard: Shard, parts: Path) -> dict[str, Path]:
    names = {"log": DROPPED, "account": "account.json"} | {each: f"{each}.jsonl" for each in job.sets}
    return {kind: shard.path(parts / name) for kind, name in names.items()}


def _done(job: Job, shard: Shard, parts: Path) -> bool:
    return all(path.is_file() for path in _paths(job, shard, parts).values())


def _run(job: Job, shard: Shard, parts: Path) -> None:
    part, span = _paths(job, shard, parts), shard.span(job.total)
    taught = _Taught(job)
    if shard.index == 0:
        taught.refuse_others()
    seen = set[str]()
    with Account(part["log"], max_bad=1.0) as account, ExitStack() as stack:
        files = {each: stack.enter_context(stack.enter_context(whole_file(part[each])).open("wb")) for each in job.sets}
        for number, solution in enumerate(read_solutions(job.sources.solutions)):
            if number >= span.stop:
                break
            first = key_of(solution) not in seen
            seen.add(key_of(solution))
            if number < span.start:
                continue
            account.read += 1
            kept = 0
            for name, row in _rows_of(taught, solution, number + 1, first, account):
                kept += 1
                with writing(part[name]):
                    files[name].write(line_of(row))
            account.kept += kept > 0
    write_json(part["account"], account.summary())


def _rows_of(
    taught: _Taught, solution: Solution, number: int, first: bool, account: Account
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(set, row). first: of the solutions that share its question and images."""

    def leave_out(reason: str, *, bad: bool = False, row_id: str = solution.id) -> None:
        account.exclude(RowLocation(SOLUTIONS, number), row_id, reason, bad=bad)

    options = taught.job.options
    images = [str(path) for path in solution.image_paths(taught.job.sources.solutions)]
    if not images or not all(Path(image).is_file() for image in images):
        return leave_out("missing_image" if images else "no_image", bad=True)
    description = taught.descriptions.get(key_of(solution))
    if description is None:
        return leave_out("no_description")
    if first:
        yield VISION_SFT, description_row(solution, description, images)
        if taught.contradictions is not None:
            wrong = taught.contradictions.get(key_of(solution))
            if wrong is None or same_text(wrong, description):
                leave_out("no_contradiction" if wrong is None else "equal_pair")
            else:
                yield VISION_DPO, contradiction_row(solution, description, wrong, images)
    judged = taught.judged(solution)
    if judged is None and (options.labels == "teacher" or taught.audits is not None):
        leave_out("no_judgement")
    verdicts: Sequence[int | None] = (
        solution.labels if options.labels == "measured" else [j.score for j in judged or ()]
    )
    if verdicts:
        yield from ((STEP_JUDGE, row) for row in step_rows(solution, description, verdicts, options.history, images))
        for at, verdict in enumerate(verdicts, 1):
            if verdict is None:
                leave_out("unknown_step", row_id=f"{solution.id}/{at}")
    if taught.audits is not None and judged is not None:
        if (audited := taught.audits.get(solution.id)) is None:
            leave_out("no_audit")
        else:
            yield AUDIT, taught.audit(solution, judged, audited, images)


class _Taught:
    """What the teacher wrote, by solution."""

    def __init__(self, job: Job) -> None:
        self.job, sources = job, job.sources
        self.descriptions = TeacherRows(sources.descriptions, teacher_rows.DESCRIPTIONS)
        self.judgements = TeacherRows(sources.judgements, teacher_rows.JUDGEMENTS) if sources.judgements else None
        self.contradictions = (
            TeacherRows(sources.contradictions, teacher_rows.CONTRADICTIONS) if sources.contradictions else None
        )
        self.audits = TeacherRows(sources.audits, teacher_rows.AUDITS) if sources.audits else None

    def judged(self, solution: Solution) -> list[Judged] | None:
        return judged_of(self.judgements, solution) if self.judgements is not None else None

    def audit(
        self, solution: Solution, judged: list[Judged], audited: Audited, images: Sequence[str]
    ) -> dict[str, Any]:
        try:
            return audit_row(solution, judged, audited, images)
        except ValueError as error:
            raise self._others(self.job.sources.audits, f"the audit of {solution.id!r}: {error}") from error

    def refuse_others(self) -> None:
        """UserError where no row of one kind is about these solutions."""
        ids, images = set[str](), set[str]()
        for solution in read_solutions(self.job.sources.solutions):
            ids.add(solution.id)
            images.add(key_of(solution))
        for rows, known in (
            (self.descriptions, images),
            (self.contradictions, images),
            (self.judgements, ids),
            (self.audits, ids),
        ):
            if rows is not None and known.isdisjoint(rows):
                raise self._others(rows.source, f"none of its {len(rows):,} {rows.kind.name} is about these solutions")

    def _others(self, source: Path | None, problem: str) -> UserError:
        return UserError(
            f"{source}: {problem}; give what the teacher wrote about {self.job.sources.solutions}, or ask it again",
            code="teacher.other-solutions", path=source,
        )  # fmt: skip


def _merge(job: Job, max_bad: float, shards: list[Shard], parts: Path) -> dict[str, Any]:
    """Nothing is written under a final name if too many solutions are bad, or a set would be empty."""
    files = [_paths(job, shard, parts) for shard in shards]
    with Account(job.out / DROPPED, max_bad) as account:
        for part in files:
            account.absorb(part["account"], part["log"])
        account.check()
        counts = write_selected(
            {each: [part[each] for part in files] for each in job.sets},
            job.out,
            balance=job.options.balance,
            max_rows=job.options.max_rows,
            validation=job.validation,
            seed=job.options.seed,
            joined={STEP_JUDGE: AUDIT} if job.options.auditor == "judge" else {},
        )
    for name in {f"{each}{suffix}" for each in SETS for suffix in ("", VALIDATION)} - set(counts["rows"]):
        (job.out / f"{name}.jsonl").unlink(missing_ok=True)  # of an earlier run: it may share images with these
    return {
        "solutions": str(job.sources.solutions), **asdict(job.options), "validation": job.validation,
        **account.summary(), **counts,
    }  # fmt: skip
