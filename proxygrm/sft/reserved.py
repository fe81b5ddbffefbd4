"""Arguments of ms-swift that the suite writes itself, and what to use instead of them in `extra_args`."""

from __future__ import annotations

from proxygrm.core.errors import UserError

APPENDED = ("external_plugins", "callbacks")
"""Lists that the suite begins; `extra_args` may add to them."""
_PUBLIC = "command lines are public; {} is read from the environment of the job"
_INSTEAD = {
    "model": "it is the stage's start checkpoint",
    "dataset": "it is the stage's data",
    "output_dir": "it is the stage's folder",
    "ref_model": "it is the stage's start checkpoint",
    "attn_impl": "the setting is attn_implementation",
    "per_device_eval_batch_size": "the setting is per_device_train_batch_size, for both",
    "bf16": "the setting is torch_dtype",
    "fp16": "the setting is torch_dtype",
    "center_rewards_coefficient": "the setting is reward_model.center_rewards_coefficient",
    "data_seed": "the setting is seed",
    "val_dataset": "it is the stage's validation rows",
    "early_stop_interval": "the setting is early_stop",
    "eval_strategy": "the setting is split_dataset_ratio: 0 for no evaluation",
    "eval_steps": "the setting is save_steps: each checkpoint is evaluated",
    "save_strategy": "the setting is save_steps",
    "save_only_model": "a job that is preempted resumes, so the optimiser is always saved",
    "resume_from_checkpoint": "a stage resumes from its last checkpoint by itself",
    "resume_only_model": "a stage resumes from its last checkpoint by itself",
    "add_version": "the folders of a run are fixed",
    "ignore_args_error": "an unknown argument is always an error",
    "report_to": "the tracking is SwanLab's; SWANLAB_MODE chooses online, offline or disabled",
    "swanlab_mode": "the tracking is chosen by SWANLAB_MODE",
    "swanlab_project": "the tracking has the suite's project",
    "swanlab_exp_name": "the tracking has the stage's name",
    "swanlab_token": _PUBLIC.format("SWANLAB_API_KEY"),
    "swanlab_secret": _PUBLIC.format("SWANLAB_API_KEY"),
    "hub_token": _PUBLIC.format("HF_TOKEN"),
    "push_to_hub_token": _PUBLIC.format("HF_TOKEN"),
    "use_hf": "checkpoints are local, or in the hub's cache",
    "check_model": "checkpoints are local, or in the hub's cache",
}


def refuse_reserved(name: str, settings: frozenset[str]) -> None:
    """settings: names of the stage's own. Raises UserError (sft.reserved-argument) with what to use instead."""
    instead = f"{name} is a setting of the stage" if name in settings else _INSTEAD.get(name)
    if instead:
        raise UserError(
            f"sft: no {name} in extra_args: {instead}", code="sft.reserved-argument", name=name, instead=instead
        )
