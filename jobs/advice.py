"""Commands that messages advise, typed in full: with the run, and with what that run was asked for.

Texts say `proxygrm submit`; `in_full` makes of it a line that can be pasted into any shell of the same folder.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from jobs.request import Request

LOOK = ("status", "why", "logs", "cost", "cancel", "report")
SEND = ("submit", "plan")
_COMMAND = re.compile(rf"\bproxygrm (?:({'|'.join((*LOOK, *SEND))})|ablate SPEC)(?=[\s`:;,.)]|$)(?! --run)")


def run_option(folder: Path) -> str:
    """The run folder as a person would type it here."""
    path = folder.absolute()
    here = Path.cwd()
    return f"--run {shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) and path != here else path))}"


def options(request: Request) -> list[str]:
    """Everything a request says, as options of `submit`."""
    words = ["--profile", request.profile]
    words += ["--experiment", request.experiment] if request.experiment else []
    words += ["--nodes", str(request.nodes)] if request.nodes else []
    words += [word for one in request.assignments for word in ("--set", one)]
    words += [word for name, value in request.scheduler for word in (f"--{name}", value)]
    return words


def in_full(text: str, folder: Path, request: Request | None = None) -> str:
    """Every command of the text that concerns a run gets its options; those that have a --run are left alone."""

    def typed(found: re.Match[str]) -> str:
        command = found[1] or f"ablate {(request and request.ablation_name) or 'SPEC'}"
        more = shlex.join(options(request)) if request and command not in LOOK else ""
        return " ".join(filter(None, ["proxygrm", command, run_option(folder), more]))

    return _COMMAND.sub(typed, text)
