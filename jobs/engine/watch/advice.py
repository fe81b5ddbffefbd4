"""Commands that messages advise, typed in full: with the run, and with what that run was asked for.

Texts say `proxygrm submit`; `in_full` makes of it a line that can be pasted into any shell of the same folder.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from jobs.engine.request import Request

LOOK = ("status", "why", "logs", "cost", "cancel", "report")
SEND = ("submit", "plan")
_COMMAND = re.compile(rf"\bproxygrm (?:({'|'.join((*LOOK, *SEND))})|ablate SPEC)(?=[\s`:;,.)]|$)(?! --run)")


def run_option(folder: Path) -> str:
    """The run folder as a person would type it here."""
    return f"--run {shlex.quote(_from_here(folder))}"


def profile_option(request: Request) -> str:
    """The profile as a person would type it here."""
    own = request.profile.endswith(".toml")
    return _from_here(Path(request.profile)) if own else request.profile


def elsewhere(request: Request) -> bool:
    """Whether its relative paths begin in another folder than the current one."""
    return bool(request.folder) and Path(request.folder) != Path.cwd()


def _from_here(path: Path) -> str:
    path, here = path.absolute(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) and path != here else path)


def options(request: Request) -> list[str]:
    """Everything a request says, as options of `submit`."""
    words = ["--profile", profile_option(request)]
    words += ["--experiment", request.experiment] if request.experiment else []
    words += ["--nodes", str(request.nodes)] if request.nodes else []
    words += [word for one in request.assignments for word in ("--set", one)]
    words += [word for name, value in request.scheduler for word in (f"--{name}", value)]
    return words


def in_full(text: str, folder: Path, request: Request | None = None) -> str:
    """Every command of the text that concerns a run gets its options; those that have a --run are left alone."""

    def typed(found: re.Match[str]) -> str:
        command = found[1] or f"ablate {(request and request.ablation_name) or 'SPEC'}"
        # What was asked for in another folder holds there: the run's own record says it.
        full = request is not None and command not in LOOK and not elsewhere(request)
        more = shlex.join(options(request)) if request and full else ""
        return " ".join(filter(None, ["proxygrm", command, run_option(folder), more]))

    return _COMMAND.sub(typed, text)
