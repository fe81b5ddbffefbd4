"""`proxygrm why [STAGE]`: gathers what records, logs and SLURM know of a stage, and explains it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jobs.engine import state
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.records import read_json
from jobs.engine.stage import Stage
from jobs.engine.state import StageState
from jobs.engine.watch import logs
from jobs.engine.watch.explain import Case, Explanation, Text, explain, nothing_wrong
from proxygrm.core.errors import UserError
from proxygrm.core.runtime.log_tail import read_end
from slurm import scheduler


def explain_stage(name: str, stages: list[Stage], ledger: Ledger, away: str = "") -> Explanation:
    """name: of a stage, or of a batch, which is explained by its most telling member. away: as of `state.each`."""
    states = state.each(stages, ledger, away)
    members = [stage for stage in stages if name in (stage.name, stage.batch)]
    if not members:
        known = [*dict.fromkeys(s.batch or s.name for s in stages)]
        message = f"no stage {name!r} in this run; it has {', '.join(known)}"
        raise UserError(message, code="stage.unknown", name=name, known=known)
    stage = min(members, key=lambda member: _interest(states[member.name]))
    return explain(_case(stage, states, ledger, away))


def explain_run(stages: list[Stage], ledger: Ledger, away: str = "") -> Explanation:
    """What holds the chain up: the first stage that ended badly, else what the first queued one waits for.
    away: as of `state.each`."""
    states = state.each(stages, ledger, away)
    for words in (state.BAD | {"unknown"}, state.LIVE - {"running"}):
        if stage := next((stage for stage in stages if states[stage.name].word in words), None):
            return explain(_case(stage, states, ledger, away))
    return nothing_wrong(list(states.values()))


def _interest(member: StageState) -> int:
    """The lowest is explained first."""
    return -1 if member.word in state.BAD else state.WORDS.index(member.word)


def _case(stage: Stage, states: Mapping[str, StageState], ledger: Ledger, away: str) -> Case:
    now = states[stage.name]
    upstream = [states[parent.name] for parent in stage.upstream() if parent.name in states]
    if now.word in ("done", "not submitted", "running", "waiting", "pending"):
        return Case(now, upstream)
    row = ledger.submissions()[stage.name]
    attempts = [] if away else scheduler.attempts([row["job_id"]], row["submitted"])
    ended = [attempt for attempt in attempts if attempt.state not in ("RUNNING", "PENDING")]
    failed = [attempt for attempt in ended if attempt.state not in ("COMPLETED", "CANCELLED")] or ended
    last = failed[-1] if failed else None
    since = last.start if last else row["submitted"]
    return Case(now, upstream, state.failure_reason(stage, ledger, since), last, _texts(stage, ledger, since))


def _texts(stage: Stage, ledger: Ledger, since: float) -> list[Text]:
    def name(path: Path) -> str:
        return str(path.relative_to(ledger.folder))

    own = logs.select(logs.segments(stage, ledger), None, None)
    texts = [Text(name(segment.path), segment.first_line, segment.lines) for segment in own]
    before: dict[str, int] = {}
    for cell in range(stage.array):
        before |= read_json(logs.sizes_file(ledger.folder / stage.name, cell)) or {}
    for path in logs.other_logs(ledger.folder / stage.name, since):
        first, lines = read_end(path, start=before.get(str(path.relative_to(ledger.folder / stage.name)), 0))
        texts.append(Text(name(path), first, lines))
    return texts
