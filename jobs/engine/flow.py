"""How a request becomes jobs: resolve -> facts -> plan -> check -> send -> record. Each step hands on what it made.

`proxygrm plan` stops after the check; `submit`, `ablate` and `demo` take every step; `run-stage`, which runs inside a
job that a user sent, resolves, checks and records. Sharded data steps (`jobs.engine.steps`) join at the facts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jobs.engine import check, request
from jobs.engine.facts import gather, wait_for_ending
from jobs.engine.plan import Planned, Sending, plan
from jobs.engine.request import Resolved
from jobs.engine.run_folder import reuse, tokens
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.stage import Stage, closure
from jobs.engine.submit import AT_ONCE
from jobs.engine.submit import submit as send
from proxygrm.core.errors import UserError
from slurm import reach
from slurm.environment import path_problem


@dataclass(frozen=True)
class Choice:
    """What one command says beside the request; the run does not keep it."""

    stages: tuple[str, ...] = ()
    """Only these and what they need; () or ("chain",) for all."""
    redo: frozenset[str] = frozenset()
    sending: Sending = AT_ONCE


class Listener:
    """Hears of each step as it is taken; this one ignores it."""

    def on_ready(self) -> None:
        """The scheduler answers, and the run folder is locked."""

    def on_message(self, line: str) -> None:
        """Something happened that the user should know."""

    def on_plan(self, planned: list[Planned]) -> None: ...

    def on_problems(self, problems: list[check.Problem]) -> str:
        """Nothing will be sent, and the first of them is raised. Returns advice to append to it."""
        return ""

    def on_reused(self, line: Planned) -> None: ...

    def on_sent(self, line: Planned, job_id: str) -> None: ...


def preview(resolved: Resolved, ledger: Ledger, choice: Choice, ask_scheduler: bool) -> list[Planned]:
    """Facts and plan; nothing is written."""
    stages = chosen(resolved, choice)
    facts = gather(stages, ledger, ask_scheduler, resolved.identities, resolved.request.reuse)
    return plan(stages, facts, choice.redo)


def submit(resolved: Resolved, ledger: Ledger, choice: Choice, listener: Listener) -> list[Planned]:
    """Send what is missing, under the run folder's lock; returns the plan. Where the records prove every stage done,
    nothing is started or written."""
    if problem := path_problem(ledger.folder):
        raise UserError(problem, code="run.bad-path", path=ledger.folder)
    ledger.refuse_foreign()
    planned = preview(resolved, ledger, choice, ask_scheduler=False)
    if all(line.action == "skip" for line in planned):
        listener.on_plan(planned)
        return planned
    with _ready(resolved, ledger, choice, planned, listener):
        planned = preview(resolved, ledger, choice, ask_scheduler=True)
        listener.on_plan(planned)
        if any(line.action in ("run", "reuse") for line in planned):
            refuse_problems(resolved, ledger, planned, listener, ask_scheduler=True)
            check.other_jobs(choice.sending.after)
            record(resolved, ledger, listener)
            for line in planned:
                if line.elsewhere:
                    reuse.link(ledger, line.stage, resolved.identities[line.stage.name], line.elsewhere)
                    listener.on_reused(line)
            send(planned, resolved.profile, ledger, choice.redo, listener.on_sent, choice.sending)
    return planned


def chosen(resolved: Resolved, choice: Choice) -> list[Stage]:
    """The stages that a command speaks of, with all they need."""
    closure(resolved.stages, sorted(choice.redo))  # raises for a name that does not exist
    everything = choice.stages in ((), ("chain",))
    names = [stage.name for stage in resolved.stages] if everything else list(choice.stages)
    return closure(resolved.stages, names)


def refuse_problems(
    resolved: Resolved, ledger: Ledger, planned: list[Planned], listener: Listener, ask_scheduler: bool
) -> None:
    """Raise UserError for what a submit of this plan would fail on."""
    if problems := check.find_problems(planned, resolved.profile, ledger.folder, ask_scheduler):
        check.refuse(problems, listener.on_problems(problems))


def record(resolved: Resolved, ledger: Ledger, listener: Listener) -> None:
    """Write run.json and code.diff; the jobs are recorded as they are sent."""
    if lines := request.save(resolved, ledger):
        what = f"{lines} line{'s' * (lines > 1)} that look{'s' * (lines == 1)} like a secret"
        listener.on_message(f"code.diff leaves out {what}")


@contextmanager
def _ready(
    resolved: Resolved, ledger: Ledger, choice: Choice, planned: list[Planned], listener: Listener
) -> Iterator[None]:
    """The run folder is locked, the scheduler answers, earlier submissions have an end, no job of these stages is still
    ending."""
    if reach.private_cluster_is_down(resolved.profile):  # it is not started for what cannot be sent
        refuse_problems(resolved, ledger, planned, listener, ask_scheduler=False)
    with ledger.lock("submit"), reach.scheduler_ready(resolved.profile):
        listener.on_ready()
        for line in tokens.settle(ledger):
            listener.on_message(line)
        if ending := wait_for_ending(chosen(resolved, choice), ledger):
            listener.on_message(f"SLURM still ends job {', '.join(ending)} (squeue: CG); continuing without it")
        yield
