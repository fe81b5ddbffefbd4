"""`proxygrm serve-reward`: reward models of any kind behind one HTTP API."""

from __future__ import annotations

from pathlib import Path

import click

from jobs.cli.common.options import (
    FiniteRange,
    NamedPath,
    allow_option,
    no_key_option,
    refuse_idle,
    refuse_key_and_none,
    tensor_parallel_option,
    with_options,
)
from jobs.cli.eval.judges import KEY_OPTIONS, NAME_OPTION, TRUST_OPTION, Calls, judges_of
from jobs.cli.process.options import AUDITOR, EXTRACTOR
from proxygrm.core.checkpoints.kinds import KINDS, PROCESS
from proxygrm.critique.contracts import CONTRACTS, PROXY_GRM, Contract

_PATH = click.Path(path_type=Path)
_LENGTH = click.IntRange(0)


@click.command("serve-reward")
@click.argument("served", nargs=-1, required=True, metavar="[NAME=]MODEL...")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="[MODEL=]KIND",
    help=f"Of a checkpoint: what it was trained as, {', '.join(KINDS)}.  [as it shows]",
)
@with_options([EXTRACTOR, AUDITOR, NAME_OPTION, *KEY_OPTIONS])
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True, help="Of each model.")
@tensor_parallel_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0: a free one.")
@click.option("--images", type=NamedPath(), help="Folder whose images requests may name by path.")
@click.option("--key-file", type=_PATH, help="Key of callers; made when missing.  [reward.key in --dir, or here]")
@no_key_option
@allow_option
@click.option(
    "--contract",
    type=click.Choice(CONTRACTS),
    default=PROXY_GRM,
    show_default=True,
    help="What generative models are asked for: Proxy-GRM's critique, or R1-Reward's judgement.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--dir", "folder", type=_PATH, help="For the logs of the replicas.  [a temporary one]")
@click.option(
    "--max-model-len", type=_LENGTH, default=0, help="In tokens.  [what the checkpoint allows, at most 32000]"
)
@click.option(
    "--max-num-seqs", type=click.IntRange(1), default=64, show_default=True, help="Requests a replica works on."
)
@click.option("--max-tokens", type=_LENGTH, default=0, help="Longest critique, in tokens.  [16384, or a share]")
@click.option("--max-pixels", type=_LENGTH, default=0, help="Scale larger images down.  [the model's]")
@click.option(
    "--timeout",
    "call_timeout_s",
    type=FiniteRange(min=0, min_open=True),
    default=600,
    show_default=True,
    help="Seconds for one judgement, retries included.",
)
@TRUST_OPTION
def serve_reward(
    served: tuple[str, ...],
    kinds: tuple[str, ...],
    extractor: str,
    auditor: str,
    models: tuple[str, ...],
    api_key_env: str,
    api_key_file: Path | None,
    replicas: int,
    tensor_parallel_size: int,
    host: str,
    port: int,
    images: Path | None,
    key_file: Path | None,
    no_key: bool,
    allow: tuple[str, ...],
    contract: Contract,
    device: str,
    folder: Path | None,
    max_model_len: int,
    max_num_seqs: int,
    max_tokens: int,
    max_pixels: int,
    call_timeout_s: float,
    trust_remote_code: bool,
) -> None:
    """Answer POST /score, /compare and /steps with reward models of any kind, until Ctrl-C; a page for people is at /.

    \b
    proxygrm serve-reward runs/mine/rm/model --replicas 2 --images /data/images
    proxygrm serve-reward grm=GENERATIVE rm=SCALAR --port 8000
    proxygrm serve-reward PROCESS --extractor CHECKPOINT --auditor http://gpu8:8000 --model auditor=qwen2.5-vl-72b

    A model is called like its folder, or NAME. Whether it scores, judges steps or writes critiques is read from its
    files. A checkpoint with several names or tasks is started once.
    What could not be judged is answered 503 with its cause, never with a score.
    """
    from jobs.cli.common.quiet import quiet, say
    from proxygrm.reward_service import run as service
    from proxygrm.reward_service.models import read_helper, read_kinds, read_models
    from proxygrm.serving.access.callers import parse_callers
    from proxygrm.serving.settings import ProxySettings

    refuse_key_and_none("serve-reward", key_file, no_key)
    settings = ProxySettings(
        replicas=replicas,
        tensor_parallel_size=tensor_parallel_size,
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        max_tokens=max_tokens,
        max_pixels=max_pixels,
        call_timeout_s=call_timeout_s,
        trust_remote_code=trust_remote_code,
    )
    callers, reward_models = parse_callers(allow), read_models(served, read_kinds(kinds))
    judges_steps = any(model.kind == PROCESS for model in reward_models)
    refuse_idle("extractor auditor", "without a process model", unless=judges_steps)
    calls = Calls(max_num_seqs, call_timeout_s, api_key_env, api_key_file)
    given = {name: source for name, source in (("extractor", extractor), ("auditor", auditor)) if source}
    helpers = {
        name: read_helper(name, source, reward_models) if isinstance(source, Path) else source.pool()
        for name, source in judges_of(given, models, calls).items()
    }
    key = key_file or (folder or Path()) / service.KEY_FILE
    with quiet("serve-reward"):
        service.run(
            reward_models,
            settings,
            helpers=helpers,
            contract=contract,
            folder=folder,
            device=device,
            host=host,
            port=port,
            images=images,
            key_file=None if no_key else key,
            callers=callers,
            on_message=say,
        )
