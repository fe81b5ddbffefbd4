"""Cluster profiles: strict, typed, and no place for secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxygrm.core.errors import UserError
from slurm import profile


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
    ("text", "expected"),
    [
        ('[scheduler]\npartitoin = "x"\n', "did you mean 'partition'"),
        ("[nodes]\ngpus = 8\n", "did you mean 'node'"),
        ('[node]\ngpus = "eight"\n', "expected int"),
        ("[node]\ngpus = true\n", "expected int"),
        ("[environment]\nsetup = [1]\n", "expected str values"),
        ("scheduler = 3\n", "expected a table"),
        ("[scheduler\n", "not valid TOML"),
        ('[environment.variables]\nSWANLAB_API_KEY = "x"\n', "looks like a secret"),
        ('[environment.variables]\nMY-NAME = "x"\n', "'MY-NAME' is no name that a shell can export"),
        ("[node]\ngpus = -1\n", "node: gpus is -1; it must be at least 0"),
        ('[node]\ndevice = "cudda"\n', "'cudda' is unknown; there are cuda and cpu"),
        ("[scheduler]\nsignal_before_end_s = 0\n", "signal_before_end_s is 0"),
        ("[scheduler]\nmax_requeues = -1\n", "max_requeues is -1"),
        ('[scheduler.sbatch]\ntime = "1:00"\n', "sbatch.time: say it by --set on.STAGE.walltime_min=N"),
        ('[scheduler.sbatch]\nqos = "long"\n', "say it by scheduler.qos"),
        ('[scheduler.sbatch]\nrequeue = "no"\n', "sbatch.requeue: the chain depends on its own"),
        ('[scheduler.sbatch]\nmail_user = "me"\n', "'mail_user' is no long name of an option"),
    ],
)
def test_a_bad_profile_is_refused_with_the_key_and_the_remedy(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=expected) as caught:
        profile.load(str(file))
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_an_unknown_profile_names_the_nearest_one() -> None:
    with pytest.raises(UserError, match="did you mean h100"):
        profile.load("h10")
