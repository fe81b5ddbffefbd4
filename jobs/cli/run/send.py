"""`proxygrm plan` and `proxygrm submit`: options in, `jobs.engine.flow`, and what it reports on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.markup import escape

from jobs.cli.common import console
from jobs.cli.common.plan_table import print_scripts, show_plan
from jobs.cli.run.follow import ended_well, follow
from jobs.engine import check, flow
from jobs.engine.flow import Choice
from jobs.engine.plan import Planned, Sending
from jobs.engine.request import Resolved
from jobs.engine.run_folder.ledger import Ledger
from proxygrm.core.errors import UserError
from slurm import reach


def plan(options: dict[str, Any], stages: Iterable[str], script: bool, redo: Iterable[str]) -> None:
    resolved, ledger = console.of_request(options)
    answers, choice = _scheduler_answers(resolved), _choice(options, stages, redo)
    console.say_ignored()
    planned = flow.preview(resolved, ledger, choice, ask_scheduler=answers)
    show_plan(planned, resolved, ledger)
    if script:
        print_scripts(planned, resolved, ledger, choice.sending)
    flow.refuse_problems(resolved, ledger, planned, Terminal(resolved, ledger), ask_scheduler=answers)
    if answers:
        check.other_jobs(choice.sending.after)


def submit(
    options: dict[str, Any],
    stages: Iterable[str],
    redo: Iterable[str],
    watch: bool,
    at_the_end: Callable[[Path], None] = lambda folder: None,
) -> None:
    """watch: until everything has ended; then `at_the_end`, with the run folder, is called.

    Raises UserError when a watched stage did not end well: run.stage-failed, run.not-finished.
    """
    resolved, ledger = console.of_request(options)
    planned = send(resolved, ledger, _choice(options, stages, redo))
    if watch:
        names = {line.stage.batch or line.stage.name for line in planned}
        states = follow(resolved, ledger)
        at_the_end(ledger.folder)
        ended_well([row for row in states if row.stage in names])


def send(resolved: Resolved, ledger: Ledger, choice: Choice = flow.Choice()) -> list[Planned]:  # noqa: B008 - frozen
    """Submit what is missing, and say what was sent or why nothing was. Returns what it planned."""
    planned = flow.submit(resolved, ledger, choice, Terminal(resolved, ledger))
    actions = {line.action for line in planned}
    if actions <= {"skip"}:
        console.out.print(
            f"nothing to do: every stage is done; {console.in_full('`proxygrm submit`')} with --redo STAGE runs one "
            "again, --run NAME starts another run",
            soft_wrap=True,
        )
    elif "run" not in actions:
        waiting = [line.stage.name for line in planned if line.action == "wait"]
        queued = f"{', '.join(waiting)} are in the queue, the rest" if waiting else "every stage"
        console.out.print(f"nothing to send: {queued} is done")
    elif choice.sending.hold:
        _show_held(planned, ledger)
    return planned


class Terminal(flow.Listener):
    """Prints each step."""

    def __init__(self, resolved: Resolved, ledger: Ledger) -> None:
        self.resolved, self.ledger = resolved, ledger
        self._sent: set[str] = set()

    def on_ready(self) -> None:
        console.say_ignored()

    def on_message(self, line: str) -> None:
        console.warn(line)

    def on_plan(self, planned: list[Planned]) -> None:
        show_plan(planned, self.resolved, self.ledger)

    def on_problems(self, problems: list[check.Problem]) -> str:
        for problem in problems[1:]:
            console.out.print(f"[red]not possible:[/] {escape(problem.text)}", soft_wrap=True)
        drawn = self.resolved.preset in {"demo", "quick"} and self.resolved.recipe.demo_inputs
        if drawn and any(problem.code == "submit.missing-input" for problem in problems):
            recipe = self.resolved.recipe.name
            return f"; `proxygrm demo --recipe {recipe} --prepare-only` makes the demo's data and model"
        return ""

    def on_reused(self, line: Planned) -> None:
        console.out.print(f"[cyan]{line.stage.name}[/] {escape(str(line.elsewhere))}", soft_wrap=True)

    def on_sent(self, line: Planned, job_id: str) -> None:
        """A line for each stage, and one for all cells of a batch."""
        job = job_id.split("_")[0] if line.stage.batch else job_id
        if job not in self._sent:
            self._sent.add(job)
            console.out.print(f"submitted [cyan]{line.stage.batch or line.stage.name}[/] as job {job}")


def _choice(options: dict[str, Any], stages: Iterable[str], redo: Iterable[str]) -> Choice:
    sending = Sending(options.get("hold", False), tuple(options.get("after", ())))
    return Choice(tuple(stages), frozenset(redo), sending)


def _show_held(planned: list[Planned], ledger: Ledger) -> None:
    rows = ledger.submissions()
    held = [line.stage.name for line in planned if line.action == "run" and not line.after]
    if jobs := ",".join(dict.fromkeys(rows[name]["job_id"].split("_")[0] for name in held)):
        console.out.print(f"held; they start after:  scontrol release {jobs}")


def _scheduler_answers(resolved: Resolved) -> bool:
    """Whether queued jobs can be seen; if not, it says so, and the plan goes by the records alone."""
    reason = reach.private_cluster_is_down(resolved.profile)
    if not reason:
        try:
            reach.connect(resolved.profile, start=False)
            reach.require_slurm()
        except UserError as error:
            reason = str(error)
    if reason:
        console.out.print(f"[yellow]planning without a scheduler:[/] {escape(reason)}", soft_wrap=True)
    return not reason
