"""The command, the tuner and further arguments, checked against the installed ms-swift without importing it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from proxygrm.core.errors import UserError
from proxygrm.sft import installed
from proxygrm.sft.arguments import PLUGIN, by_name, command, swift_arguments
from proxygrm.sft.settings import RLHF_TYPES, SftSettings
from support.refusals import refused

needs_swift = pytest.mark.needs("swift")


def arguments(**changes: object) -> dict[str, list[str]]:
    settings = replace(SftSettings.demo(), **changes)  # type: ignore[arg-type]
    return by_name(swift_arguments(settings, Path("/start"), Path("/rows.jsonl"), Path("/out/swift"), "cpu"))


def test_lora_has_its_rank_and_targets_and_a_whole_model_has_none() -> None:
    lora = arguments(tuner_type="lora", lora_rank=4, lora_alpha=16.0, target_modules=("q_proj", "v_proj"))
    assert lora["--tuner_type"] == ["lora"]
    assert lora["--target_modules"] == ["q_proj", "v_proj"]
    assert (lora["--lora_rank"], lora["--lora_alpha"]) == (["4"], ["16.0"])
    assert not {"--lora_rank", "--lora_alpha", "--target_modules", "--rlhf_type"} & arguments().keys()
    assert (SftSettings(tuner_type="lora").makes, SftSettings().makes) == ("adapter", "model")


@pytest.mark.parametrize("kind", RLHF_TYPES)
@pytest.mark.parametrize("tuner", ["full", "lora"])
def test_preferences_are_compared_with_the_start_checkpoint_where_ms_swift_takes_one(kind: str, tuner: str) -> None:
    values = arguments(command="rlhf", rlhf_type=kind, tuner_type=tuner)
    assert values["--rlhf_type"] == [kind]
    assert values.get("--ref_model") == (["/start"] if kind in ("dpo", "kto") and tuner == "full" else None)
    assert command([], "cuda", 1, "rlhf")[-1] == "swift.cli.rlhf"
    assert command([], "cpu", 1, "rlhf")[-1] == "rlhf"


def test_the_template_is_that_of_the_model_type_unless_another_is_set() -> None:
    assert arguments(model_type="qwen3_vl")["--template"] == ["qwen3_vl"]
    assert arguments(model_type="qwen3_vl", template="qwen2_5_vl")["--template"] == ["qwen2_5_vl"]
    assert not {"--model_type", "--template"} & arguments(model_type="").keys()


@needs_swift
@pytest.mark.parametrize(("called", "kind"), [("qwen2_vl", "qwen2_vl"), ("qwen2_5_vl", "qwen2_5_vl"), ("llava_9", "")])
def test_without_a_model_type_it_is_what_the_checkpoint_calls_it_where_ms_swift_knows_that(
    tmp_path: Path, called: str, kind: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": called}))
    assert installed.model_type_of(tmp_path) == kind


def test_further_arguments_come_last_and_lists_grow() -> None:
    extra = ("lora_dropout=0.1", "loss-type=sigmoid", "--loss_type=bco_pair", "callbacks=early_stop", "freeze_llm=true",
             "system=You compare a=b")  # fmt: skip
    values = arguments(extra_args=extra)
    assert values["--loss_type"] == ["sigmoid", "bco_pair"]
    assert values["--callbacks"] == ["save_when_asked", "early_stop"]
    assert values["--external_plugins"] == [str(PLUGIN)]
    assert (values["--freeze_llm"], values["--system"]) == (["true"], ["You compare a=b"])


@pytest.mark.parametrize("text", ["lora_dropout", "=1", "two words=1", "beta=--model", ""])
def test_an_argument_without_name_or_value_is_refused(text: str) -> None:
    with refused("sft.malformed-argument", value=text):
        SftSettings(extra_args=(text,))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("learning_rate", "setting"),
        ("bf16", "torch_dtype"),
        ("model", "start"),
        ("resume_from_checkpoint", "itself"),
        ("hub_token", "HF_TOKEN"),
        ("swanlab_token", "SWANLAB_API_KEY"),
        ("ref_model", "start"),
    ],
)
def test_what_the_suite_sets_is_refused_with_the_setting_to_use(name: str, hint: str) -> None:
    with refused("sft.reserved-argument", name=name) as caught:
        SftSettings(extra_args=(f"{name}=x",))
    assert hint in caught.value.values["instead"]


def test_every_argument_the_suite_writes_is_reserved_or_free_to_change() -> None:
    written = {name[2:] for name in arguments(command="rlhf", rlhf_type="dpo", split_dataset_ratio=0.1)}
    free, codes = set(), set()
    for name in written:
        try:
            SftSettings(extra_args=(f"{name}=1",))
        except UserError as error:
            codes.add(error.code)
        else:
            free.add(name)
    assert codes == {"sft.reserved-argument"}
    assert free == {"dataset_num_proc", "freeze_llm", "external_plugins", "callbacks"}


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"command": "pt"}, "command", "pt"),
        ({"command": "rlhf"}, "rlhf_type", ""),
        ({"command": "rlhf", "rlhf_type": "grpo"}, "rlhf_type", "grpo"),
        ({"rlhf_type": "dpo"}, "rlhf_type", "dpo"),
        ({"tuner_type": "qlora"}, "tuner_type", "qlora"),
    ],
)
def test_an_unknown_command_or_tuner_is_named(changes: dict, name: str, value: str) -> None:
    with refused("settings.unknown-value", name=name, value=value):
        SftSettings(**changes)


@needs_swift
def test_a_scalar_model_is_not_a_step_judge() -> None:
    with refused("settings.contradiction", name="step_judge", rlhf_type="rm"):
        SftSettings(command="rlhf", rlhf_type="rm", step_judge=True)


def test_an_unknown_argument_gets_the_nearest_name() -> None:
    with refused("sft.unknown-argument", name="lora_droput", command="sft") as caught:
        SftSettings(extra_args=("lora_droput=0.1",)).check_installed()
    assert "did you mean 'lora_dropout'?" in str(caught.value)
    with refused("sft.unknown-argument", name="rpo_alpha", command="sft"):
        SftSettings(extra_args=("rpo_alpha=1",)).check_installed()
    SftSettings(command="rlhf", rlhf_type="dpo", extra_args=("rpo_alpha=1", "beta=0.2")).check_installed()


@needs_swift
@pytest.mark.parametrize(
    "text", ["lora_bias=some", "use_dora=yes", "lora_dropout=high", "packing=", "max_grad_norm=1,0", "num_labels=1.5"]
)
def test_a_value_of_the_wrong_kind_is_refused(text: str) -> None:
    name, value = text.split("=")
    with refused("sft.wrong-value", name=name, value=value):
        SftSettings(extra_args=(text,)).check_installed()


@needs_swift
def test_one_value_is_not_given_twice() -> None:
    with refused("sft.repeated-argument", name="lora_dropout"):
        SftSettings(extra_args=("lora_dropout=0.1", "lora_dropout=0.2")).check_installed()
    SftSettings(extra_args=("modules_to_save=a", "modules_to_save=b")).check_installed()


@needs_swift
def test_a_model_type_or_template_that_ms_swift_lacks_is_refused_unless_a_plugin_may_bring_it() -> None:
    with refused("settings.unknown-value", name="model_type", value="qwen2_5_v") as caught:
        SftSettings(model_type="qwen2_5_v").check_installed()
    assert "did you mean 'qwen2_5_vl'?" in str(caught.value)
    with refused("settings.unknown-value", name="template", value="mine"):
        SftSettings(template="mine").check_installed()
    SftSettings(template="mine", extra_args=("external_plugins=mine.py",)).check_installed()
    SftSettings(model_type="").check_installed()


def test_without_ms_swift_nothing_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "arguments", lambda command: None)
    monkeypatch.setattr(installed, "_source", lambda module: None)
    assert installed.check_argument("sft", "anything", "1", "here") is None
    assert installed.registered.__wrapped__("model_type") == ()


@needs_swift
def test_the_check_imports_neither_torch_nor_ms_swift() -> None:
    code = (
        "import sys; from proxygrm.sft.settings import SftSettings; "
        "SftSettings(extra_args=('lora_dropout=0.1',)).check_installed(); "
        "sys.exit(bool({'torch', 'swift', 'transformers'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[4]).returncode == 0


_FIELDS = """
import dataclasses, json, sys
from swift.arguments import ExportArguments, RLHFArguments, SftArguments
from swift.model import MODEL_MAPPING
from swift.template import TEMPLATE_MAPPING

classes = {"sft": SftArguments, "rlhf": RLHFArguments, "export": ExportArguments}
fields = {name: [f.name for f in dataclasses.fields(kind) if f.init] for name, kind in classes.items()}
print("FOUND" + json.dumps({**fields, "model_type": [*MODEL_MAPPING], "template": [*TEMPLATE_MAPPING]}))
"""


@pytest.mark.heavy
def test_the_source_says_what_the_imported_classes_say() -> None:
    done = subprocess.run([sys.executable, "-c", _FIELDS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.split("FOUND")[1])
    for name in installed.CLASSES:
        assert set(installed.arguments(name) or ()) == set(found[name]), name
    for name in ("model_type", "template"):
        assert set(installed.registered(name)) >= set(found[name]), name
