"""Commands in messages, completed with the options of the run they are about.

Messages say `proxygrm submit`; `in_full` turns that into a line that can be pasted into any shell in the same folder.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from jobs.engine.recipe import own_file, with_file
from jobs.engine.request import Request
from jobs.engine.run_folder.records import from_here

LOOK = ("status", "why", "logs", "cost", "cancel", "clean", "report")
SEND = ("submit", "plan")
_COMMAND = re.compile(rf"\bproxygrm (?:({'|'.join((*LOOK, *SEND))})|ablate SPEC)(?=[\s`:;,.)]|$)(?! --run)")


def run_option(folder: Path) -> str:
    """The option --run for this folder, as typed in the current directory."""
    return f"--run {shlex.quote(from_here(folder))}"


def profile_option(request: Request) -> str:
    """The value of --profile, as typed in the current directory."""
    own = request.profile.endswith(".toml")
    return from_here(Path(request.profile)) if own else request.profile


def recipe_option(request: Request) -> str:
    """The recipe as a person would type it here."""
    file = own_file(request.recipe)
    return with_file(request.recipe, Path(from_here(file))) if file else request.recipe


def elsewhere(request: Request) -> bool:
    """Whether its relative paths are relative to another folder than the current one."""
    return bool(request.folder) and Path(request.folder) != Path.cwd()


def options(request: Request) -> list[str]:
    """A request as options of `submit`."""
    words = ["--profile", profile_option(request)]
    words += ["--recipe", recipe_option(request)] if request.recipe else []
    words += ["--nodes", str(request.nodes)] if request.nodes else []
    words += [word for assignment in request.assignments for word in ("--set", assignment)]
    words += [word for name, value in request.scheduler for word in (f"--{name}", value)]
    words += [word for run in request.reuse for word in ("--reuse", from_here(Path(run)))]
    return words


def in_full(text: str, folder: Path, request: Request | None = None) -> str:
    """Add the run's options to every command in the text that is about a run; those with --run stay as they are."""

    def complete(match: re.Match[str]) -> str:
        command = match[1] or f"ablate {(request and request.ablation_name) or 'SPEC'}"
        # Options typed in another folder would mean something else here; the run's record has them.
        full = request is not None and command not in LOOK and not elsewhere(request)
        more = shlex.join(options(request)) if request and full else ""
        return " ".join(filter(None, ["proxygrm", command, run_option(folder), more]))

    return _COMMAND.sub(complete, text)
