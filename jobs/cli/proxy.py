"""`proxygrm proxy ...`: the frozen proxy without a training job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from jobs.cli.common.options import (
    FiniteRange,
    NamedPath,
    allow_option,
    no_key_option,
    refuse_idle,
    refuse_key_and_none,
    tensor_parallel_option,
)
from jobs.cli.common.say import echo
from jobs.cli.eval.judges import TRUST_OPTION
from proxygrm.serving.settings import MODES, Mode

_PATH = click.Path(path_type=Path)
_HOST = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
_CONTEXT = click.option(
    "--max-model-len",
    type=click.IntRange(0),
    default=0,
    help="Prompt and answer, in tokens.  [what the checkpoint allows, at most 32000]",
)
_ANSWER = click.option(
    "--max-tokens",
    type=click.IntRange(0),
    default=0,
    help="Longest answer, in tokens.  [16384; in a smaller context the same share of it]",
)
_MODE = click.Choice(MODES)
_IMAGES = click.option(
    "--images", "--pictures", type=NamedPath(), help="Folder whose images requests may name by path."
)


@click.group()
def proxy() -> None:
    """The frozen judge of rubrics: replicas, a front end for other programs."""


@proxy.command()
@click.option("--model", type=_PATH, required=True, help="Checkpoint folder of the proxy.")
@click.option("--mode", type=_MODE, default="critique", show_default=True, help="Reason first, or a verdict at once.")
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True)
@tensor_parallel_option
@_HOST
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Of the first replica; the others follow. 0: free ones.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@TRUST_OPTION
@_IMAGES
@click.option("--dir", "folder", type=_PATH, help="For endpoints.json and the logs.  [a temporary one]")
@_CONTEXT
@click.option("--max-num-seqs", type=click.IntRange(1), default=64, show_default=True)
@_ANSWER
def serve(
    model: Path,
    mode: Mode,
    replicas: int,
    tensor_parallel_size: int,
    host: str,
    port: int,
    device: str,
    images: Path | None,
    folder: Path | None,
    max_model_len: int,
    max_num_seqs: int,
    max_tokens: int,
    trust_remote_code: bool,
) -> None:
    """Start vLLM replicas on this machine and keep them running until Ctrl-C.

    Each requires the key in the endpoints file, which is created for this run and removed with it.
    """
    from jobs.cli.common.quiet import quiet, say
    from proxygrm.serving.replicas import standalone
    from proxygrm.serving.settings import ProxySettings

    settings = ProxySettings(
        mode=mode,
        replicas=replicas,
        tensor_parallel_size=tensor_parallel_size,
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        max_tokens=max_tokens,
        trust_remote_code=trust_remote_code,
    )
    with quiet("proxy serve"):
        standalone.run(
            model, settings, folder=folder, device=device, host=host, port=port, images=images, on_message=say
        )


@proxy.command()
@click.option("--endpoints", type=_PATH, help="Endpoints file of `proxy serve` or of a job.")
@click.option("--mode", type=_MODE, help="Reason first (critique), or a verdict at once.  [as in the endpoints file]")
@click.option(
    "--url", "urls", multiple=True, metavar="URL", help="Instead: an OpenAI-compatible server; may be repeated."
)
@click.option("--served-model", default="proxy", show_default=True, help="With --url: the model's name there.")
@click.option("--api-key-file", type=_PATH, help="With --url: file with the key of those servers.")
@click.option("--max-tokens", type=click.IntRange(0), default=0, help="With --url.  [what fits the server's context]")
@click.option("--max-num-seqs", type=click.IntRange(1), default=64, show_default=True, help="With --url: per server.")
@_HOST
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0: a free one.")
@click.option("--key-file", type=_PATH, help="Key that callers need; made when missing.  [front.key beside ENDPOINTS]")
@no_key_option
@allow_option
@_IMAGES
@click.option("--timeout", "timeout_s", type=FiniteRange(min=0, min_open=True), help="Seconds for one call.")
def front(
    endpoints: Path | None,
    mode: Mode | None,
    urls: tuple[str, ...],
    served_model: str,
    api_key_file: Path | None,
    max_tokens: int,
    max_num_seqs: int,
    host: str,
    port: int,
    key_file: Path | None,
    no_key: bool,
    allow: tuple[str, ...],
    images: Path | None,
    timeout_s: float | None,
) -> None:
    """Answer upstream's POST /get_reward_mllm, a typed /score, /health and /metrics until Ctrl-C.

    Give --endpoints or --url. A call without a verdict is answered 503 with its cause, never with a reward.

    Callers need a key. Upstream's own client sends none, and names images by path:

    \b
    proxygrm proxy front --endpoints FILE --port 8000 --no-key --images FOLDER
    proxygrm proxy front --endpoints FILE --port 8000 --host 0.0.0.0 --allow 10.1.2.0/24 --images FOLDER
    """
    from jobs.cli.common.quiet import quiet, say
    from proxygrm.core.errors import UserError
    from proxygrm.serving.access.callers import parse_callers
    from proxygrm.serving.endpoints import Endpoints
    from proxygrm.serving.front import run as front_server

    if bool(endpoints) == bool(urls):
        raise UserError("proxy front: give either --endpoints FILE or at least one --url", code="proxy.no-endpoints")
    refuse_key_and_none("proxy front", key_file, no_key)
    callers = parse_callers(allow)
    refuse_idle("served_model api_key_file max_tokens max_num_seqs", "with --endpoints, which say it", unless=urls)
    if endpoints is not None:
        targets = Endpoints.read(endpoints)
    else:
        targets = Endpoints.of_urls(urls, served_model, api_key_file, max_tokens, max_num_seqs)
    targets = replace(targets, mode=mode or targets.mode)
    key = key_file or (endpoints.with_name("front.key") if endpoints else Path("front.key"))
    with quiet("proxy front"):
        front_server.run(
            targets,
            None if no_key else key,
            host=host,
            port=port,
            images=images,
            callers=callers,
            timeout_s=timeout_s,
            on_message=say,
        )


@proxy.command()
@click.argument("rollouts", nargs=-1, required=True, type=_PATH)
@click.option("--a", required=True, metavar="PROXY", help="A checkpoint folder, endpoints.json, or http://HOST:PORT.")
@click.option("--b", metavar="PROXY", help="The other one.  [A, in the mode verdict]")
@click.option("--mode-a", type=_MODE, default="critique", show_default=True)
@click.option("--mode-b", type=_MODE, help="[critique; verdict without --b]")
@click.option("--pairs", type=_PATH, help="Rows name pairs by id: a folder or parquet of them.  [those RL read]")
@click.option("--limit", type=click.IntRange(0), default=0, help="Number of rows, spread evenly; 0: all.")
@click.option("--out", type=_PATH, help="JSONL of every opinion; the same command resumes it.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on standard output.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True, help="Of a checkpoint.")
@tensor_parallel_option
@_CONTEXT
@click.option("--max-num-seqs", type=click.IntRange(1), default=64, show_default=True)
@_ANSWER
@TRUST_OPTION
@click.option("--served-model", default="proxy", show_default=True, help="With a URL: the model's name there.")
@click.option("--api-key-file", type=_PATH, help="With a URL: file with its key.")
@click.option("--timeout", "timeout_s", type=FiniteRange(min=0, min_open=True), help="Seconds for one judgement.")
def agreement(
    rollouts: tuple[Path, ...],
    a: str,
    b: str | None,
    mode_a: Mode,
    mode_b: Mode | None,
    pairs: Path | None,
    limit: int,
    out: Path | None,
    as_json: bool,
    device: str,
    served_model: str,
    api_key_file: Path | None,
    timeout_s: float | None,
    **limits: Any,
) -> None:
    """How often two proxies, or two modes of one, reach the same verdict with the same rubrics.

    \b
    proxygrm proxy agreement RUN/STAGE/rollouts --a RUN/OTHER/model --limit 2000
    proxygrm proxy agreement answers.jsonl --a old/model --b new/model --out opinions.jsonl

    ROLLOUTS: JSONL files, or folders of them: RL's rollouts, or any rows of question, response_1, response_2, images,
    label and critique. Checkpoints are served on this machine, one after the other.
    """
    import json

    from jobs.cli.common.console import out as console
    from jobs.cli.common.quiet import quiet, say
    from proxygrm.evaluate.agreement.cases import read_cases
    from proxygrm.evaluate.agreement.run import Access, Side, compare_proxies
    from proxygrm.report.tables import agreement as agreement_print
    from proxygrm.serving.settings import ProxySettings

    remote = any(name and name.startswith(("http://", "https://")) for name in (a, b))
    refuse_idle("served_model api_key_file", "without a URL as --a or --b", unless=remote)
    sides = Side(a, mode_a), Side(b or a, mode_b or ("critique" if b else "verdict"))
    access = Access(ProxySettings(**limits), device, served_model, api_key_file, timeout_s)
    cases = read_cases(rollouts, pairs, limit)
    with quiet("proxy agreement"):
        figures = compare_proxies(cases, *sides, access, out, on_message=lambda line: say(line, err=True))
    if as_json:
        echo(json.dumps(figures, indent=2))
    else:
        agreement_print.show(figures, console)
