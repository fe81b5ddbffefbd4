"""Cluster profiles: strict, typed, and no place for secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxygrm.core.errors import UserError
from slurm import profile
from support.refusals import refused


@pytest.mark.parametrize("name", ["local", "a100", "h100"])
def test_every_shipped_profile_loads(name: str) -> None:
    assert profile.load(name).name == name


def test_a_profile_can_be_a_file_of_the_site(tmp_path: Path) -> None:
    file = tmp_path / "my site.toml"
    file.write_text('[scheduler]\npartition = "gpu-long"\nsbatch = { licenses = "scratch:1", mem = "0" }\n')
    loaded = profile.load(str(file))
    assert loaded.name == "my site"
    assert loaded.scheduler.partition == "gpu-long"


@pytest.mark.parametrize(
    ("text", "code", "values"),
    [
        ('[scheduler]\npartitoin = "x"\n', "settings.unknown-name", {"name": "partitoin"}),
        ("[nodes]\ngpus = 8\n", "settings.unknown-name", {"name": "nodes"}),
        ('[node]\ngpus = "eight"\n', "settings.wrong-type", {"expected": "int", "value": "eight"}),
        ("[node]\ngpus = true\n", "settings.wrong-type", {"expected": "int", "value": True}),
        ("[environment]\nsetup = [1]\n", "settings.wrong-type", {"expected": "str values", "value": 1}),
        ("scheduler = 3\n", "settings.wrong-type", {"expected": "a table", "value": 3}),
        ("[scheduler\n", "profile.not-toml", {}),
        ('[environment.variables]\nSWANLAB_API_KEY = "x"\n', "profile.secret", {"name": "SWANLAB_API_KEY"}),
        ('[environment.variables]\nMY-NAME = "x"\n', "profile.unusable", {"key": "environment.variables"}),
        ('[node]\ndevice = "cudda"\n', "profile.unusable", {"key": "node.device"}),
        ('[scheduler.sbatch]\ntime = "1:00"\n', "profile.unusable", {"key": "scheduler.sbatch.time"}),
        ('[scheduler.sbatch]\nqos = "long"\n', "profile.unusable", {"key": "scheduler.sbatch.qos"}),
        ('[scheduler.sbatch]\nrequeue = "no"\n', "profile.unusable", {"key": "scheduler.sbatch.requeue"}),
        ('[scheduler.sbatch]\nmail_user = "me"\n', "profile.unusable", {"key": "scheduler.sbatch"}),
    ],
)
def test_a_bad_profile_is_refused_with_the_key(tmp_path: Path, text: str, code: str, values: dict[str, object]) -> None:
    file = tmp_path / "site.toml"
    file.write_text(text)
    with refused(code, **values) as caught:
        profile.load(str(file))
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_an_unknown_profile_names_the_nearest_one() -> None:
    with refused("profile.unknown-name", name="h10"):
        profile.load("h10")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[node]\ngpus = -1\n", "node: gpus is -1; it must be at least 0"),
        ("[scheduler]\nsignal_before_end_s = 0\n", "signal_before_end_s is 0"),
        ("[scheduler]\nmax_requeues = -1\n", "max_requeues is -1"),
    ],
)
def test_a_number_out_of_bounds_is_refused_with_the_file(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        profile.load(str(file))
    assert str(caught.value).startswith(f"{file}: ")
    assert caught.value.code
