"""The chain: distill -> split -> SFT of proxy and reward model -> RL with the proxy's reward -> evaluate -> transfer
-> report.

READ THIS FILE FIRST. Every stage says what it needs, what it makes and where it runs; the job graph follows
from `needs` alone. What a stage does is in the file named after it beside this one.
"""

from __future__ import annotations

from jobs import ablation, distill, evaluate, report, rl, sft, split, transfer
from jobs.experiments import Experiment
from jobs.stage import Artifact, Given, Output, Stage
from proxygrm.checkpoint_code import LoadableCheckpoint
from proxygrm.checkpoints import is_hf_checkpoint


def chain(x: Experiment) -> list[Stage]:
    """Preference pairs in, a trained and evaluated reward model with its report out."""
    pairs = Given(x.pairs, check=split.pairs_folder)
    held_out = Given(x.held_out, check=split.pairs_folder)
    teacher = {} if distill.is_service(x.teacher) else {"teacher": _model(x, x.teacher, "distill")}

    # The teacher writes a critique for every pair. Pairs it judges right teach; pairs it gets wrong are the
    # hard ones that RL learns from.
    critiques = Stage(
        name="distill",
        run=distill.write_critiques,
        needs={"pairs": pairs, **teacher},
        makes=(Artifact("critiques"),),
        on=x.on.distill,
        config=distill.Settings(x.teacher, x.shards, x.distill, x.teacher_model),
        prompts=("grm",),
        array=x.shards,
    )
    splits = Stage(
        name="split",
        run=split.write_splits,
        needs={"pairs": pairs, "critiques": critiques / "critiques"},
        makes=(
            Artifact("proxy_sft.jsonl"),
            Artifact("proxy_rl.parquet"),
            Artifact("proxy_rl_val.parquet"),
            Artifact("grm_sft.jsonl"),
            Artifact("grm_rl.parquet"),
            Artifact("grm_rl_val.parquet"),
        ),
        on=x.on.split,
        config=x.split,
        prompts=("grm", "proxy"),
    )

    # The proxy learns to judge from a rubric; the reward model gets its cold start. Both at once.
    proxy_sft = Stage(
        name="proxy_sft",
        run=sft.train,
        needs={"start": _model(x, x.proxy, "proxy_sft"), "data": splits / "proxy_sft.jsonl"},
        makes=(Artifact("model", check=is_hf_checkpoint),),
        on=x.on.proxy_sft,
        config=x.proxy_sft,
    )
    grm_sft = Stage(
        name="grm_sft",
        run=sft.train,
        needs={"start": _model(x, x.policy, "grm_sft"), "data": splits / "grm_sft.jsonl"},
        makes=(Artifact("model", check=is_hf_checkpoint),),
        on=x.on.grm_sft,
        config=x.grm_sft,
    )

    # The paper's second proxy: GRPO on its own verdict, from the start checkpoint or after SFT.
    proxy_rl = Stage(
        name="proxy_rl",
        run=rl.train_grpo,
        needs={
            "policy": proxy_sft / "model" if x.proxy_training == "sft+rl" else _model(x, x.proxy, "proxy_rl"),
            "train": splits / "proxy_rl.parquet",
            "validation": splits / "proxy_rl_val.parquet",
        },
        makes=(Artifact("policy", check=is_hf_checkpoint), Artifact("metrics.jsonl")),
        on=x.on.proxy_rl,
        config=rl.Settings(grpo=x.proxy_rl),
    )
    ways: dict[str, tuple[list[Stage], Output | None]] = {
        "none": ([], None),
        "sft": ([proxy_sft], proxy_sft / "model"),
        "rl": ([proxy_rl], proxy_rl / "policy"),
        "sft+rl": ([proxy_sft, proxy_rl], proxy_rl / "policy"),
    }
    proxy_stages, trained = ways[x.proxy_training]

    def judge(loads: str) -> Given | Output:
        """The proxy, for the stage whose settings are called `loads`."""
        return trained or _model(x, x.proxy, loads)

    # GRPO: the reward is accuracy + agreement of the frozen proxy, which sees the rubric only, + format.
    grm_rl = Stage(
        name="grm_rl",
        run=rl.train_grpo,
        needs={
            "policy": grm_sft / "model",
            "proxy": judge("proxy_server"),
            "train": splits / "grm_rl.parquet",
            "validation": splits / "grm_rl_val.parquet",
        },
        makes=(Artifact("policy", check=is_hf_checkpoint), Artifact("metrics.jsonl")),
        on=x.on.grm_rl,
        config=rl.Settings(grpo=x.rl, proxy=x.proxy_server, proxy_nodes=x.proxy_nodes),
        prompts=("proxy", "proxy_verdict") if x.proxy_server.mode == "verdict" else ("proxy",),
    )

    # Held-out pairs, both response orders: before training, after SFT, after RL.
    scores = Stage(
        name="evaluate",
        run=evaluate.judge_held_out,
        needs={
            "held_out": held_out,
            "proxy": judge("evaluate"),
            "start": _model(x, x.policy, "evaluate"),
            "sft": grm_sft / "model",
            "rl": grm_rl / "policy",
        },
        makes=(Artifact("summary.json"),),
        on=x.on.evaluate,
        config=x.evaluate,
        prompts=("grm", "proxy"),
    )
    # Do the rubrics help a judge that took no part in training? Without one, the proxy is asked, and the table says so.
    gains = Stage(
        name="transfer",
        run=transfer.measure,
        needs={
            "judge": _model(x, x.judge, "transfer") if x.judge else judge("transfer"),
            "judged": scores / "summary.json",
        },
        makes=(Artifact("transfer.json"),),
        on=x.on.transfer,
        config=transfer.Settings.of(x.judge, x.transfer),
        prompts=("proxy", "proxy_bare"),
    )
    page = Stage(
        name="report",
        run=report.write_page,
        needs={"summary": scores / "summary.json", "transfer": gains / "transfer.json"},
        makes=(Artifact("report.html"),),
        on=x.on.report,
    )
    return [critiques, splits, *proxy_stages, grm_sft, grm_rl, scores, gains, page]


def _model(x: Experiment, path: str, loads: str) -> Given:
    """A checkpoint that somebody else made. loads: the settings that say whether its code, if any, is run."""
    option = f"--set {loads}.trust_remote_code=true"
    return Given(path, check=LoadableCheckpoint(option, getattr(x, loads).trust_remote_code))


def ablation_chain(x: Experiment, cells: tuple[ablation.Cell, ...], throttle: int = 0) -> list[Stage]:
    """The same chain for every cell, up to the evaluation of its policy; what cells have in common is made once."""
    return ablation.cell_stages(chain(x), [(cell, chain(ablation.experiment(x, cell))) for cell in cells], throttle)
