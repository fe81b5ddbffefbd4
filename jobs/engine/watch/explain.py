"""One sentence on a failure or a wait, with the lines that show it and what to do. Pure: facts in, explanation out.

It says only what a record, SLURM or a line of a log says. Where none of them explains it, it shows the log's end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from jobs.engine import state
from jobs.engine.state import StageState
from jobs.engine.watch.known_failures import (
    CHILD_DIED,
    ENDS,
    FAILURES,
    KILLED,
    REQUEUED_BY_US,
    TASK_EXITED,
    TASK_KILLED,
    WAITS,
    Known,
)
from slurm.scheduler import Attempt

MAX_LINES = 3
END_LINES = 12
MAX_LENGTH = 400


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
    """Everything known of one stage."""

    state: StageState
    upstream: Sequence[StageState] = ()
    reason: str = ""
    """What the job recorded about its failure."""
    last: Attempt | None = None
    """Its newest attempt that accounting knows as ended."""
    texts: Sequence[Text] = ()
    """Logs of the newest attempt, the jobs' own first."""


@dataclass(frozen=True)
class Explanation:
    stage: str
    word: str
    sentence: str
    cause: str = ""
    """A name of the table, "" when none of its rows fits."""
    do: str = ""
    lines: tuple[Evidence, ...] = ()
    log_end: tuple[Evidence, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def explain(case: Case) -> Explanation:
    """The same facts give the same sentence."""
    explanation = _explain(case)
    return replace(explanation, do=explanation.do.replace("proxygrm submit", _submit_command(case.state.stage)))


def nothing_wrong(states: Sequence[StageState]) -> Explanation:
    """For stages that run, are done or were not submitted."""
    counts: Counter[str] = Counter(one.word for one in states)
    missing = [one for one in states if one.word == "not submitted"]
    changed = next((one for one in missing if one.detail), None)
    because = f" ({changed.stage}: {changed.detail})" if changed else ""
    word = "running" if counts["running"] else "not submitted" if missing else "done"
    do = _submit_command(missing[0].stage) if word == "not submitted" else ""
    return Explanation("", word, f"nothing is wrong: {state.summary(counts)}{because}", do=do)


def _submit_command(stage: str) -> str:
    """The command that submits a stage again."""
    return "proxygrm ablate SPEC" if stage.startswith("cells/") else "proxygrm submit"


def _explain(case: Case) -> Explanation:
    now, name = case.state, case.state.stage
    if now.word == "done":
        again = f" at attempt {now.attempt}" if now.attempt > 1 else ""
        reused = f"; {now.detail}" if now.detail else ""
        return Explanation(name, now.word, f"{name} is done: {now.seconds:.0f} s{again}{reused}")
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
        sentence = f"what became of {name} is not known: {now.detail}"
        return Explanation(name, now.word, sentence, do="proxygrm submit: what is done is skipped", log_end=_end(case))
    return _ended(case)


def _waiting(case: Case) -> Explanation:
    name = case.state.stage
    parts = [f"{up.stage}, which is {up.word} {up.detail}".strip() for up in case.upstream if up.word != "done"]
    sentence = f"{name} waits for {'; and '.join(parts) or 'a job of another run (--after)'}"
    lost = [up for up in case.upstream if up.word in state.BAD]
    return Explanation(name, "waiting", sentence, do=f"proxygrm why {lost[0].stage}" if lost else "")


def _pending(name: str, reason: str, job_id: str) -> Explanation:
    if not reason:
        return Explanation(name, "pending", f"{name} waits: the scheduler gives no reason yet")
    wait = next((wait for wait in WAITS if reason.startswith(wait.reason)), None)
    if wait is None:
        return Explanation(
            name, "pending", f"{name} waits, SLURM's reason is {reason}", do="man squeue, JOB REASON CODES"
        )
    do = wait.do.replace("JOB", job_id)
    return Explanation(name, "pending", f"{name} waits: {wait.means} ({reason})", wait.reason, do)


def _requeued(case: Case) -> Explanation:
    now = case.state
    evidence = _matches(case.texts, REQUEUED_BY_US)[-1:]
    ended = ENDS.get(case.last.state, "") if case.last else ""
    if evidence and "preflight" in evidence[0].text:
        because = "the preflight found a bad node and excluded it"
    elif ended:
        because = ended
    elif evidence:
        because = "the scheduler told it to stop (time limit or preemption)"
    else:
        because = "no record gives the reason (scontrol requeue by hand?)"
    where = f" on {case.last.nodes}" if case.last and case.last.nodes and ended else ""
    return Explanation(
        now.stage, now.word, f"{now.stage} was requeued ({now.detail}): {because}{where}; it resumes from where it was",
        ended and case.last.state if case.last else "", "nothing: it starts by itself", tuple(evidence),
    )  # fmt: skip


def _ended(case: Case) -> Explanation:
    now, name = case.state, case.state.stage
    code = case.last.exit_code if case.last else ""
    verb = {"cancelled": "was cancelled", "node failed": "lost its node"}.get(now.word, now.word)
    lost = [up for up in case.upstream if up.word in state.BAD | {"unknown"}]
    if now.word == "cancelled" and lost and not case.reason:
        sentence = f"{name} was cancelled because {lost[0].stage}, which it needs, {lost[0].word}"
        return Explanation(name, now.word, sentence, "DependencyNeverSatisfied", f"proxygrm why {lost[0].stage}")
    if case.reason and not CHILD_DIED.search(case.reason):
        return Explanation(name, now.word, f"{name} {verb}: {case.reason}", "said by the job", lines=_recorded(case))
    if now.word in ("failed", "timed out") and (match := find(case.texts, case.reason)):
        known, lines = match
        return Explanation(name, now.word, f"{name} {verb}: {meaning(known, lines[0])}", known.name, known.do, lines)
    again = "proxygrm submit: it resumes from where it was"
    by_slurm = _by_slurm(case, verb)
    if by_slurm:
        sentence, cause, do = by_slurm
        evidence = tuple(_matches(case.texts, TASK_KILLED)[-1:]) if cause == "killed" else ()
        return Explanation(name, now.word, sentence, cause, do or again, evidence, _end(case))
    if case.reason:
        return Explanation(name, now.word, f"{name} {verb}: {case.reason}", log_end=_end(case))
    exit_code = f" (exit code {code})" if code and code != "0:0" else ""
    return Explanation(
        name, now.word, f"{name} {verb}{exit_code}, and its logs show no known pattern; their end is below",
        log_end=_end(case), do=f"proxygrm logs {name} -n 200",
    )  # fmt: skip


def _by_slurm(case: Case, verb: str) -> tuple[str, str, str] | None:
    """What only SLURM says: (sentence, cause, what to do)."""
    name, last, word = case.state.stage, case.last, case.state.word
    if last and last.state == "OUT_OF_MEMORY":
        return (
            f"{name} {verb}: SLURM ended it because its memory was used up",
            "host out of memory",
            "ask for more mem_gb",
        )
    if word == "timed out":
        limit = f" of {last.limit_min} min" if last and last.limit_min else ""
        return f"{name} timed out: its time limit{limit} passed", "time limit", ""
    if word == "node failed":
        return f"{name} lost its node{f' {last.nodes}' if last and last.nodes else ''}", "node failure", ""
    if word == "preempted":
        return f"{name} was preempted and not requeued", "preemption", ""
    if word == "cancelled":
        return f"{name} was cancelled by a user or a script (scancel)", "cancelled", ""
    if (last and last.exit_code in KILLED) or _only_killed(case):
        return (
            f"{name} {verb}: it was killed (SIGKILL), and no log names the sender; used-up memory is the usual reason",
            "killed", "sacct -o MaxRSS,ReqMem of the job; ask for more mem_gb",
        )  # fmt: skip
    return None


def _only_killed(case: Case) -> bool:
    """srun also kills the remaining tasks when one ends with an error: then that error is the cause."""
    return bool(_matches(case.texts, TASK_KILLED)) and not _matches(case.texts, TASK_EXITED)


def meaning(known: Known, evidence: Evidence) -> str:
    """The row's sentence with the name from its line."""
    match = known.shows.search(evidence.text)
    name = next((group for group in match.groups() if group), "") if match else ""
    return known.means.replace("{1}", name or "what it needs")


def find(texts: Sequence[Text], reason: str = "") -> tuple[Known, tuple[Evidence, ...]] | None:
    """The first row of the table that any log shows, with its last lines; the recorded reason counts as a log."""
    texts = [*texts, *([Text("said by the job", 1, [reason])] if reason else [])]
    for known in FAILURES:
        if matches := _matches(texts, known.shows):
            same_file = [line for line in matches if line.file == matches[0].file]
            return known, tuple(same_file[-MAX_LINES:])
    return None


def _matches(texts: Sequence[Text], pattern: re.Pattern[str]) -> list[Evidence]:
    return [
        Evidence(text.name, text.first + number, line.strip()[:MAX_LENGTH])
        for text in texts
        for number, line in enumerate(text.lines)
        if pattern.search(line)
    ]


def _recorded(case: Case) -> tuple[Evidence, ...]:
    """Where the logs show the recorded reason."""
    words = re.compile(re.escape(re.sub(r" \(on [^()]*\)$", "", case.reason)[:120]))
    return tuple(_matches(case.texts, words)[-1:])


def _end(case: Case) -> tuple[Evidence, ...]:
    text = next((text for text in case.texts if any(line.strip() for line in text.lines)), None)
    if text is None:
        return ()
    lines = [(number, line) for number, line in enumerate(text.lines) if line.strip()][-END_LINES:]
    return tuple(Evidence(text.name, text.first + number, line.rstrip()[:MAX_LENGTH]) for number, line in lines)
