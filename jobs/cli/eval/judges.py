"""Options for judges, shared by the commands that ask one or several of them: a checkpoint or an endpoint."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from proxygrm.evaluate.settings import DEVICES, MISSING_IMAGES

_FILE = click.Path(path_type=Path)
_TIMEOUT = click.FloatRange(0, min_open=True)
PROMPT_OPTIONS = [
    click.option(
        "--max-model-len",
        type=click.IntRange(0),
        default=0,
        help="With the prompt.  [what the checkpoint allows, at most 16384]",
    ),
    click.option("--max-pixels", type=click.IntRange(0), default=0, help="Scale larger pictures down.  [the model's]"),
    click.option(
        "--missing-images",
        type=click.Choice(MISSING_IMAGES),
        default="refuse",
        show_default=True,
        help="Rows without their image: refuse all, leave them out, or show a grey one.",
    ),
]
TRUST_OPTION = click.option(
    "--trust-remote-code", is_flag=True, help="Run Python code that comes with a checkpoint; else it is refused."
)
_CALL_OPTIONS = [
    click.option("--concurrency", type=click.IntRange(1), default=32, show_default=True, help="Endpoint: open calls."),
    click.option(
        "--timeout", "timeout_s", type=_TIMEOUT, default=300.0, show_default=True, help="Endpoint: one call, s."
    ),
    click.option("--api-key-env", default="", metavar="NAME", help="Endpoint: the variable that holds the key."),
    click.option("--api-key-file", type=_FILE, help="Endpoint: a 0600 file that holds the key."),
]
_JUDGE_OPTIONS = [
    *PROMPT_OPTIONS,
    click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True),
    click.option("--tensor-parallel", type=click.IntRange(1), default=1, show_default=True, help="GPUs of a judge."),
    TRUST_OPTION,
    click.option("--model", "models", multiple=True, metavar="[JUDGE=]NAME", help="Endpoint: the model to ask for."),
]


OF_ENDPOINTS = "models model concurrency timeout_s api_key_env api_key_file"
OF_CHECKPOINTS = "max_model_len device tensor_parallel copies trust_remote_code"
JUDGING = f"{OF_ENDPOINTS} {OF_CHECKPOINTS} max_pixels missing_images"
"""Parameters of the options above, for `refuse_idle`."""


@dataclass(frozen=True)
class Calls:
    """How endpoints are called."""

    concurrency: int
    timeout_s: float
    api_key_env: str
    api_key_file: Path | None

    def endpoint(self, url: str, model: str) -> Any:
        from proxygrm.evaluate.judges.endpoint import Endpoint

        key_file = str(self.api_key_file.resolve()) if self.api_key_file else ""
        return Endpoint(
            url, model, self.concurrency, self.timeout_s, api_key_env=self.api_key_env, api_key_file=key_file
        )


def with_options(options: Sequence[Any]) -> Any:
    """A decorator: all these options, in their order."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def call_options(command: Any) -> Any:
    """The options of a command that may ask an endpoint; it gets them as one value `calls`."""

    @functools.wraps(command)
    def gathered(**given: Any) -> Any:
        return command(calls=Calls(**{field.name: given.pop(field.name) for field in fields(Calls)}), **given)

    return with_options(_CALL_OPTIONS)(gathered)


def judge_options(command: Any) -> Any:
    """The options of a command that asks one or several judges; it gets `models`, `calls` and settings of prompts."""
    return with_options(_JUDGE_OPTIONS)(call_options(command))


def judge_for(who: Any, settings: Any) -> Any:
    """The judge that writes critiques, of a Path or an Endpoint."""
    from proxygrm.evaluate.judges.base import CheckpointJudge
    from proxygrm.evaluate.judges.endpoint import Endpoint, EndpointJudge

    return EndpointJudge(who, settings) if isinstance(who, Endpoint) else CheckpointJudge(who, settings)


def named_values(option: str, values: tuple[str, ...]) -> dict[str, str]:
    """("sft=a.jsonl", ...) -> {"sft": "a.jsonl"}. UserError for a value without a name, and for a name given twice."""
    from proxygrm.core.errors import UserError

    found: dict[str, str] = {}
    for value in values:
        name, sign, text = value.partition("=")
        if not (sign and name and text) or "/" in name:
            raise UserError(f"{option} {value}: say what it is called, for example {option} mine={value}")
        if name in found:
            raise UserError(f"{option}: two are called {name!r}; name them apart")
        found[name] = text
    return found


def judges_of(asked: Mapping[str, str], models: tuple[str, ...], calls: Calls) -> dict[str, Any]:
    """{name: checkpoint or URL} -> {name: Path or Endpoint}. UserError for what is neither, or lacks its model."""
    from jobs.cli.common.options import refuse_idle
    from proxygrm.core.errors import UserError

    remote = [where.startswith(("http://", "https://")) for where in asked.values()]
    refuse_idle(OF_ENDPOINTS, "on checkpoints: it is of endpoints", unless=any(remote))
    wanted: dict[str, str] = {}
    for text in models:
        name, sign, model = text.partition("=")
        if sign and name in asked:
            wanted[name] = model
        else:
            wanted |= {judge: text for judge in asked if judge not in wanted}
    found: dict[str, Any] = {}
    for name, where in asked.items():
        if where.startswith(("http://", "https://")):
            if name not in wanted:
                raise UserError(f"the judge {where} is an endpoint: say which model of it to ask with --model NAME")
            found[name] = calls.endpoint(where, wanted[name])
        elif (Path(where) / "config.json").is_file():
            found[name] = Path(where).resolve()
        else:
            raise UserError(
                f"the judge {where} is no checkpoint (a folder with config.json) and no endpoint (http://...)"
            )
    return found
