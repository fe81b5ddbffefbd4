"""Tries a user's file in a Python of its own: what it imports (Ray, torch) stays out of the process that asks, which
has yet to set up these libraries, and what ends Python there does not end it here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.runtime.log_tail import telling_line

LIMIT_S = 300.0
"""For the imports of the file, from a slow shared folder too."""
_CHILD = "from proxygrm.core.runtime.own_python import child; child()"


def try_file(load: str, path: Path, name: str, code: str) -> None:
    """Calls `load(path, name)` there; load: "MODULE:FUNCTION". UserError: those it raises, their values as JSON has
    them; `code` where the file ends Python or takes too long."""
    command = [sys.executable, "-c", _CHILD, load, str(path), name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        why = f"its import does not end within {LIMIT_S:g} s"
        raise UserError(f"{path}:1: {why}", code=code, path=str(path), line=1) from error
    try:
        refusal = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        why = f"its import ended Python with exit code {done.returncode}: {telling_line(done.stderr.splitlines())}"
        raise UserError(f"{path}:1: {why}", code=code, path=str(path), line=1) from error
    if refusal:
        raise UserError(refusal["message"], code=refusal["code"], **refusal["values"])


def child() -> None:
    """What runs in the other Python: the last line of its stdout is the refusal, or null."""
    load, path, name = sys.argv[1:]
    module, _, function = load.partition(":")
    refusal = None
    try:
        getattr(import_module(module), function)(Path(path), name)
    except UserError as error:
        values = json.loads(json.dumps(error.values, default=str))
        refusal = {"message": str(error), "code": error.code, "values": values}
    print(f"\n{json.dumps(refusal)}", flush=True)
    os._exit(0)  # threads that the file has started do not keep it
