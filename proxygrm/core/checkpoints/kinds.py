"""What a checkpoint that judges was trained to write: one number (scalar), verdicts on steps (process), or text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.check import read_json
from proxygrm.core.checkpoints.scalar import is_scalar_checkpoint
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_json

SCALAR, PROCESS, GENERATIVE = KINDS = ("scalar", "process", "generative")
MARKER = "step_judge.json"
"""Lies beside config.json of a checkpoint that our training made a step judge: {"kind": "process", ...}."""


def kind_of(path: Path, given: str = "") -> str:
    """One of KINDS. A scalar model is known by its config.json and a step judge by its marker; of others `given` is the
    kind, by default generative. Raises UserError where `given` contradicts what the checkpoint shows."""
    known = SCALAR if is_scalar_checkpoint(path) else PROCESS if _is_marked(path) else ""
    if given and given not in KINDS:
        raise UserError(
            f"--kind {given!r} is unknown; known: {', '.join(KINDS)}", code="checkpoint.unknown-kind", kind=given
        )
    if (known == SCALAR and given not in ("", SCALAR)) or (known != SCALAR and given == SCALAR):
        shows = "has a reward head" if known == SCALAR else "has no reward head"
        raise UserError(
            f"{path} {shows} by its config.json, so it is not of the kind {given}; leave --kind out",
            code="checkpoint.other-kind",
            path=path,
            kind=given,
        )
    return given or known or GENERATIVE


def process_marker(made_by: dict[str, Any]) -> dict[str, Any]:
    """What the marker of a step judge holds. made_by: what the training wants to be known of it."""
    return {**made_by, "kind": PROCESS}


def mark_process(path: Path, made_by: dict[str, Any]) -> None:
    """Write the marker into a checkpoint."""
    write_json(path / MARKER, process_marker(made_by))


def refuse_process(path: Path, wanted: str, given: str = "") -> None:
    """Raise UserError (checkpoint.process) for a step judge. wanted: what the checkpoint is to do."""
    if kind_of(path, given) == PROCESS:
        raise UserError(
            f"{path} is a step judge, which answers 1 or -1; {wanted} needs a checkpoint that writes. It judges with "
            "`proxygrm process score` and `proxygrm eval run --bench visualprocessbench`; if it writes all the same, "
            "pass --kind generative",
            code="checkpoint.process",
            path=path,
        )


def _is_marked(path: Path) -> bool:
    if not (path / MARKER).is_file():
        return False
    marker = read_json(path, MARKER)
    return isinstance(marker, dict) and marker.get("kind") == PROCESS
