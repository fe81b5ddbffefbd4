"""The mixture as a stage of a chain on the real local scheduler."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import send, until_ended

from data_tools.mix.run import mix as mix_here
from data_tools.mix.spec import read_spec
from data_tools.rows.preference import read_pairs
from jobs.engine.run_folder.ledger import Ledger
from jobs.stages.data import mix
from slurm.profile import Health, Profile, Scheduler
from slurm.sbatch import Resources
from support.rows.filter_pairs import folder, pair

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("on_the_local_cluster")]
PROFILE = Profile("test", scheduler=Scheduler(partition="gpu"), health=Health(preflight=False))
SPEC = """
[sources.a]
pairs = "a"
cap = 3
[sources.b]
pairs = "b"
"""


def test_a_mixture_sent_to_the_cluster_is_the_one_made_here(tmp_path: Path) -> None:
    for name in "ab":
        folder(tmp_path / name, [pair(f"{name}{i}") for i in range(6)])
    spec = tmp_path / "mix.toml"
    spec.write_text(SPEC)
    mix_here(read_spec(spec, tmp_path), tmp_path / "here")
    small = Resources(cpus_per_task=1, mem_gb=2, timeout_min=5)
    stage = mix.stage("mix", settings=mix.Settings(spec=str(spec), root=str(tmp_path), shards=2, on=small))
    ledger = Ledger(tmp_path / "run")
    send([stage], ledger, PROFILE)
    assert until_ended([stage], ledger)["mix"].word == "done"
    made = tmp_path / "run" / "mix"
    assert read_pairs(made / "pairs") == read_pairs(tmp_path / "here")
    report = json.loads((made / "pairs" / "mix.json").read_text())
    assert {name: each["lost"] for name, each in report["sources"].items()} == {"a": {"over_cap": 3}, "b": {}}
    assert send([stage], ledger, PROFILE) == {}
