"""Options about judges (checkpoints or endpoints), shared by the commands that use them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from jobs.cli.common.options import FiniteRange, refuse_idle, tensor_parallel_option, with_options
from proxygrm.core.checkpoints.kinds import KINDS
from proxygrm.evaluate.settings import DEVICES, MISSING_IMAGES

_FILE = click.Path(path_type=Path)
_TIMEOUT = FiniteRange(0, min_open=True)
PROMPT_OPTIONS = [
    click.option(
        "--max-model-len",
        type=click.IntRange(0),
        default=0,
        help="Prompt and answer, in tokens.  [what the checkpoint allows, at most 16384]",
    ),
    click.option("--max-pixels", type=click.IntRange(0), default=0, help="Scale larger images down.  [the model's]"),
    click.option(
        "--missing-images",
        type=click.Choice(MISSING_IMAGES),
        default="refuse",
        show_default=True,
        help="Rows without their image: refuse the run, drop the rows, or use a grey (blank) image.",
    ),
]
TRUST_OPTION = click.option(
    "--trust-remote-code", is_flag=True, help="Run Python code that comes with a checkpoint; otherwise it is refused."
)
KIND_OPTION = click.option(
    "--kind", type=click.Choice(KINDS), help="Of a checkpoint: what it was trained as.  [as it shows]"
)
NAME_OPTION = click.option(
    "--model", "models", multiple=True, metavar="[JUDGE=]NAME", help="Endpoint: the name of the model."
)
KEY_OPTIONS = [
    click.option("--api-key-env", default="", metavar="NAME", help="Endpoint: the environment variable with the key."),
    click.option("--api-key-file", type=_FILE, help="Endpoint: a file (mode 0600) with the key."),
]
_CALL_OPTIONS = [
    click.option(
        "--concurrency", type=click.IntRange(1), default=32, show_default=True, help="Endpoint: parallel calls."
    ),
    click.option(
        "--timeout", "timeout_s", type=_TIMEOUT, default=300.0, show_default=True, help="Endpoint: seconds per call."
    ),
    *KEY_OPTIONS,
]
CHECKPOINT_OPTIONS = [
    *PROMPT_OPTIONS,
    click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True),
    tensor_parallel_option,
    TRUST_OPTION,
    NAME_OPTION,
]


OF_ENDPOINTS = "models model concurrency timeout_s api_key_env api_key_file"
OF_CHECKPOINTS = "max_model_len device tensor_parallel_size copies trust_remote_code"
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


def call_options(command: Any) -> Any:
    """The options of a command that may call an endpoint; the command gets them as one value `calls`."""

    @functools.wraps(command)
    def with_calls(**values: Any) -> Any:
        return command(calls=Calls(**{field.name: values.pop(field.name) for field in fields(Calls)}), **values)

    return with_options(_CALL_OPTIONS)(with_calls)


def judge_options(command: Any) -> Any:
    """The options of a command with one or several judges; it gets `models`, `calls` and settings of prompts."""
    return with_options(CHECKPOINT_OPTIONS)(call_options(command))


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def named_values(option: str, values: tuple[str, ...]) -> dict[str, str]:
    """("sft=a.jsonl", ...) -> {"sft": "a.jsonl"}. UserError for a value without a name, and for a repeated name."""
    from proxygrm.core.errors import UserError

    by_name: dict[str, str] = {}
    for value in values:
        name, sign, text = value.partition("=")
        if not (sign and name and text) or "/" in name:
            raise UserError(
                f"{option} {value} has no name; name it, for example {option} mine={value}",
                code="option.no-name",
                option=option,
                value=value,
            )
        if name in by_name:
            raise UserError(
                f"{option}: the name {name!r} is used twice; use different names",
                code="option.repeated-name",
                option=option,
                name=name,
            )
        by_name[name] = text
    return by_name


def judges_of(sources: Mapping[str, str], models: tuple[str, ...], calls: Calls, option: str = "") -> dict[str, Any]:
    """{name: checkpoint or URL} -> {name: Path or Endpoint}. UserError for anything else, and for a missing --model.

    option: which one named them all; "": each has the option of its name.
    """
    refuse_idle(OF_ENDPOINTS, "on checkpoints: it is of endpoints", unless=any(map(is_url, sources.values())))
    model_of: dict[str, str] = {}
    for text in models:
        name, sign, model = text.partition("=")
        if sign and name in sources:
            model_of[name] = model
        else:
            model_of |= {judge: text for judge in sources if judge not in model_of}
    return {
        name: judge_source(source, model_of.get(name, ""), calls, option=option or f"--{name}")
        for name, source in sources.items()
    }


def judge_source(text: str, model: str, calls: Calls, other: str = "", option: str = "--judge") -> Any:
    """The Endpoint of a URL, or the Path of a checkpoint. UserError for anything else, and for a URL without a model.

    other: what else the command accepts, for the message; option: which one named it.
    """
    from proxygrm.core.errors import UserError

    if is_url(text):
        if not model:
            raise UserError(
                f"{option} {text} is an endpoint: pass the name of its model with --model NAME",
                code="judge.no-model",
                url=text,
            )
        return calls.endpoint(text, model)
    if not (Path(text) / "config.json").is_file():
        raise UserError(
            f"{option} {text} is neither a checkpoint (a folder with config.json) nor an endpoint (http://...)"
            + (f" nor {other}" if other else ""),
            code="judge.unknown-kind",
            path=text,
        )
    return Path(text).resolve()


def refuse_drop(missing_images: str) -> None:
    """UserError: every row of the input has its row in the output."""
    from proxygrm.core.errors import UserError

    if missing_images == "drop":
        raise UserError(
            "--missing-images drop: each row of the input has its row in the output; pass refuse or blank",
            code="process.no-drop",
        )
