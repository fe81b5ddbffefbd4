"""`proxygrm why [STAGE]`: one sentence on a failure or a wait, with the lines that show it and what to do.

It says only what a record, SLURM or a line of a log says. Where none of them tells, it shows the log's end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jobs.engine import state
from jobs.engine.run_folder.ledger import Ledger, read_json
from jobs.engine.stage import Stage
from jobs.engine.state import StageState
from jobs.engine.watch import logs
from jobs.engine.watch.known_failures import CHILD_DIED, FAILURES, WAITS, Known
from proxygrm.core.errors import UserError
from slurm import scheduler
from slurm.scheduler import Attempt

MOST_LINES = 3
END_LINES = 12
LONGEST = 400


@dataclass(frozen=True)
class Text:
    """Lines of one log, from line `first` on. name: relative to the run folder."""

    name: str
    first: int
    lines: Sequence[str]


@dataclass(frozen=True)
class Evidence:
    file: str
    line: int
    text: str


@dataclass(frozen=True)
class Case:
    """Everything known of one stage. said: what the job wrote down about its failure. last: its newest attempt that
    accounting knows as ended. texts: logs of the newest attempt, the jobs' own first."""

    state: StageState
    upstream: Sequence[StageState] = ()
    said: str = ""
    last: Attempt | None = None
    texts: Sequence[Text] = ()


@dataclass(frozen=True)
class Explanation:
    """cause: a name of the table, "" when it is none of them."""

    stage: str
    word: str
    sentence: str
    cause: str = ""
    do: str = ""
    lines: tuple[Evidence, ...] = ()
    log_end: tuple[Evidence, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def explain(case: Case) -> Explanation:
    """Pure: the same facts give the same sentence."""
    found = _explain(case)
    return replace(found, do=found.do.replace("proxygrm submit", _sends(case.state.stage)))


def _sends(stage: str) -> str:
    """The command that sends a stage again."""
    return "proxygrm ablate SPEC" if stage.startswith("cells/") else "proxygrm submit"


def _explain(case: Case) -> Explanation:
    now, name = case.state, case.state.stage
    if now.word == "done":
        again = f" at attempt {now.attempt}" if now.attempt > 1 else ""
        return Explanation(name, now.word, f"{name} is done: {now.seconds:.0f} s{again}")
    if now.word == "not submitted":
        because = f": {now.detail}" if now.detail else ""
        return Explanation(name, now.word, f"{name} was not submitted{because}", do="proxygrm submit")
    if now.word == "running":
        return Explanation(name, now.word, f"{name} is running {now.detail}".rstrip(), do="proxygrm logs -f " + name)
    if now.word == "waiting":
        return _waiting(case)
    if now.word == "pending":
        return _pending(name, now.detail.removeprefix(f"{state.summary(now.counts or {})}; "), now.job_id)
    if now.word == "requeued":
        return _requeued(case)
    if now.word == "unknown":
        sentence = f"nobody knows what became of {name}: {now.detail}"
        return Explanation(name, now.word, sentence, do="proxygrm submit: what is done is skipped", log_end=_end(case))
    return _ended(case)


def _waiting(case: Case) -> Explanation:
    name = case.state.stage
    parts = [f"{up.stage}, which is {up.word} {up.detail}".strip() for up in case.upstream if up.word != "done"]
    sentence = f"{name} waits for {'; and '.join(parts) or 'a job that is not of this run (--after)'}"
    lost = [up for up in case.upstream if up.word in state.BAD]
    return Explanation(name, "waiting", sentence, do=f"proxygrm why {lost[0].stage}" if lost else "")


def _pending(name: str, reason: str, job_id: str) -> Explanation:
    found = next((wait for wait in WAITS if reason.startswith(wait.reason)), None)
    if not reason:
        return Explanation(name, "pending", f"{name} waits: the scheduler gives no reason yet")
    if found is None:
        return Explanation(
            name, "pending", f"{name} waits, SLURM's reason is {reason}", do="man squeue, JOB REASON CODES"
        )
    do = found.do.replace("JOB", job_id)
    return Explanation(name, "pending", f"{name} waits: {found.means} ({reason})", found.reason, do)


ENDS = {
    "PREEMPTED": "a job of higher priority took its place",
    "NODE_FAIL": "a node failed",
    "TIMEOUT": "its time limit passed",
    "BOOT_FAIL": "a node did not start",
}
REQUEUED_BY_US = re.compile(r"told to stop; requeued|preflight: .*; excluded, requeue")


def _requeued(case: Case) -> Explanation:
    now = case.state
    shown = _matches(case.texts, REQUEUED_BY_US)[-1:]
    ended = ENDS.get(case.last.state, "") if case.last else ""
    if shown and "preflight" in shown[0].text:
        because = "the preflight found a bad node and left it out"
    elif ended:
        because = ended
    elif shown:
        because = "the scheduler told it to stop (time limit or preemption)"
    else:
        because = "nothing says why (scontrol requeue by hand?)"
    where = f" on {case.last.nodes}" if case.last and case.last.nodes and ended else ""
    return Explanation(
        now.stage, now.word, f"{now.stage} was requeued ({now.detail}): {because}{where}; it goes on from where it was",
        ended and case.last.state if case.last else "", "nothing: it starts by itself", tuple(shown),
    )  # fmt: skip


def _ended(case: Case) -> Explanation:
    now, name = case.state, case.state.stage
    code = case.last.exit_code if case.last else ""
    verb = {"cancelled": "was cancelled", "node failed": "lost its node"}.get(now.word, now.word)
    lost = [up for up in case.upstream if up.word in state.BAD | {"unknown"}]
    if now.word == "cancelled" and lost and not case.said:
        sentence = f"{name} was cancelled because {lost[0].stage}, which it needs, {lost[0].word}"
        return Explanation(name, now.word, sentence, "DependencyNeverSatisfied", f"proxygrm why {lost[0].stage}")
    if case.said and not CHILD_DIED.search(case.said):
        return Explanation(name, now.word, f"{name} {verb}: {case.said}", "said by the job", lines=_echo(case))
    if now.word in ("failed", "timed out") and (found := find(case.texts, case.said)):
        known, lines = found
        return Explanation(name, now.word, f"{name} {verb}: {meaning(known, lines[0])}", known.name, known.do, lines)
    again = "proxygrm submit: it goes on from where it was"
    slurm = _slurm_says(case, verb)
    if slurm:
        shown = tuple(_matches(case.texts, TASK_KILLED)[-1:]) if slurm[1] == "killed" else ()
        return Explanation(name, now.word, slurm[0], slurm[1], slurm[2] or again, shown, _end(case))
    if case.said:
        return Explanation(name, now.word, f"{name} {verb}: {case.said}", log_end=_end(case))
    told = f" (exit code {code})" if code and code != "0:0" else ""
    return Explanation(
        name, now.word, f"{name} {verb}{told}, and no known pattern is in its logs; their end is below",
        log_end=_end(case), do=f"proxygrm logs {name} -n 200",
    )  # fmt: skip


def _slurm_says(case: Case, verb: str) -> tuple[str, str, str] | None:
    """What SLURM alone tells: (sentence, cause, what to do)."""
    name, last, word = case.state.stage, case.last, case.state.word
    if last and last.state == "OUT_OF_MEMORY":
        return (
            f"{name} {verb}: SLURM ended it because its memory was used up",
            "host out of memory",
            "ask for more memory_gb",
        )
    if word == "timed out":
        limit = f" of {last.limit_min} min" if last and last.limit_min else ""
        return f"{name} timed out: its time limit{limit} passed", "time limit", ""
    if word == "node failed":
        return f"{name} lost its node{f' {last.nodes}' if last and last.nodes else ''}", "node failure", ""
    if word == "preempted":
        return f"{name} was preempted and not requeued", "preemption", ""
    if word == "cancelled":
        return f"{name} was cancelled by a person or a script (scancel)", "cancelled", ""
    if (last and last.exit_code in KILLED) or _killed_alone(case):
        return (
            f"{name} {verb}: something killed it (SIGKILL), and no log says who; used-up memory is the usual reason",
            "killed", "sacct -o MaxRSS,ReqMem of the job; ask for more memory_gb",
        )  # fmt: skip
    return None


KILLED = ("0:9", "9:0", "137:0")
"""SIGKILL, as sacct shows it of the batch script, of a task under srun, and of a task under a shell."""
TASK_KILLED = re.compile(r"srun: error: \S+: tasks? [\d,\-]+: Killed")
TASK_EXITED = re.compile(r"srun: error: \S+: tasks? [\d,\-]+: Exited with exit code")


def _killed_alone(case: Case) -> bool:
    """srun also kills what is left when one task ends with an error: then that error is the cause."""
    return bool(_matches(case.texts, TASK_KILLED)) and not _matches(case.texts, TASK_EXITED)


def meaning(known: Known, evidence: Evidence) -> str:
    """The row's sentence with what its line names."""
    found = known.shows.search(evidence.text)
    named = next((group for group in found.groups() if group), "") if found else ""
    return known.means.replace("{1}", named or "what it needs")


def find(texts: Sequence[Text], said: str = "") -> tuple[Known, tuple[Evidence, ...]] | None:
    """The first row of the table that any log shows, with its last lines; what the job said counts as a log."""
    texts = [*texts, *([Text("said by the job", 1, [said])] if said else [])]
    for known in FAILURES:
        if shown := _matches(texts, known.shows):
            own = [line for line in shown if line.file == shown[0].file]
            return known, tuple(own[-MOST_LINES:])
    return None


def _matches(texts: Sequence[Text], shape: re.Pattern[str]) -> list[Evidence]:
    return [
        Evidence(text.name, text.first + number, line.strip()[:LONGEST])
        for text in texts
        for number, line in enumerate(text.lines)
        if shape.search(line)
    ]


def _echo(case: Case) -> tuple[Evidence, ...]:
    """Where the logs show what the job wrote down."""
    words = re.compile(re.escape(re.sub(r" \(on [^()]*\)$", "", case.said)[:120]))
    return tuple(_matches(case.texts, words)[-1:])


def _end(case: Case) -> tuple[Evidence, ...]:
    text = next((text for text in case.texts if any(line.strip() for line in text.lines)), None)
    if text is None:
        return ()
    said = [(number, line) for number, line in enumerate(text.lines) if line.strip()][-END_LINES:]
    return tuple(Evidence(text.name, text.first + number, line.rstrip()[:LONGEST]) for number, line in said)


def explain_stage(name: str, stages: list[Stage], ledger: Ledger, away: str = "") -> Explanation:
    """name: of a stage, or of a batch: then of the member that says most about it. away: as of `state.each`."""
    found = state.each(stages, ledger, away)
    members = [stage for stage in stages if name in (stage.name, stage.batch)]
    if not members:
        raise UserError(
            f"no stage {name!r} in this run; it has {', '.join(dict.fromkeys(s.batch or s.name for s in stages))}"
        )
    stage = min(members, key=lambda one: _interest(found[one.name]))
    return explain(_case(stage, found, ledger, away))


def explain_run(stages: list[Stage], ledger: Ledger, away: str = "") -> Explanation:
    """What holds the chain up: the first stage that ended badly, else what the first one in the queue waits for.
    away: as of `state.each`."""
    found = state.each(stages, ledger, away)
    for holds_up in (state.BAD | {"unknown"}, state.LIVE - {"running"}):
        if stage := next((one for one in stages if found[one.name].word in holds_up), None):
            return explain(_case(stage, found, ledger, away))
    return nothing_wrong(list(found.values()))


def nothing_wrong(states: Sequence[StageState]) -> Explanation:
    """Of stages that run, are done or were not submitted."""
    counts: Counter[str] = Counter(one.word for one in states)
    missing = [one for one in states if one.word == "not submitted"]
    changed = next((one for one in missing if one.detail), None)
    because = f" ({changed.stage}: {changed.detail})" if changed else ""
    word = "running" if counts["running"] else "not submitted" if missing else "done"
    do = _sends(missing[0].stage) if word == "not submitted" else ""
    return Explanation("", word, f"nothing is wrong: {state.summary(counts)}{because}", do=do)


def _interest(one: StageState) -> int:
    return -1 if one.word in state.BAD else state.WORDS.index(one.word)


def _case(stage: Stage, found: Mapping[str, StageState], ledger: Ledger, away: str) -> Case:
    now = found[stage.name]
    upstream = [found[parent.name] for parent in stage.upstream() if parent.name in found]
    if now.word in ("done", "not submitted", "running", "waiting", "pending"):
        return Case(now, upstream)
    row = ledger.submissions()[stage.name]
    folder = ledger.folder / stage.name
    failures = [read_json(path) for path in folder.glob("FAILED.*.json")]
    tried = [] if away else scheduler.attempts([row["job_id"]], row["submitted"])
    ended = [one for one in tried if one.state not in ("RUNNING", "PENDING")]
    worst = [one for one in ended if one.state not in ("COMPLETED", "CANCELLED")] or ended
    last = worst[-1] if worst else None
    since = last.start if last else row["submitted"]
    recent = [row for row in failures if row and row["time"] >= since - state.CLOCKS_DIFFER_S]
    first = min(recent, key=lambda row: row["time"], default=None)
    return Case(now, upstream, state.said(first) if first else "", last, _texts(stage, ledger, since))


def _texts(stage: Stage, ledger: Ledger, since: float) -> list[Text]:
    def name(path: Path) -> str:
        return str(path.relative_to(ledger.folder))

    own = logs.chosen(logs.segments(stage, ledger), None, None)
    texts = [Text(name(one.path), one.first_line, one.lines) for one in own]
    before: dict[str, int] = {}
    for cell in range(stage.array):
        before |= read_json(logs.sizes_file(ledger.folder / stage.name, cell)) or {}
    for path in logs.other_logs(ledger.folder / stage.name, since):
        first, lines = logs.tail(path, start=before.get(str(path.relative_to(ledger.folder / stage.name)), 0))
        texts.append(Text(name(path), first, lines))
    return texts
