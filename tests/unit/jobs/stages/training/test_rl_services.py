"""Services of an RL stage: its needs, its fingerprint, and what a plan refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.engine.stage import Artifact, Stage
from jobs.stages.training import rl, rl_with_proxy
from proxygrm.rewards.accuracy import Accuracy
from proxygrm.serving.services.command import CommandServer
from proxygrm.serving.services.service import Service
from proxygrm.serving.settings import ProxySettings
from slurm.profile import Container, Environment, Node, Profile
from slurm.sbatch import Resources
from support.refusals import refused

PROFILE = Profile("test", node=Node(device="cuda"))
DATA = Stage("data", print, (Artifact("train"), Artifact("validation"), Artifact("index")), Resources())
SEARCH = CommandServer(name="search", command=("sh", "{index}"), needs={"index": DATA / "index"}, nodes=1)
SETTINGS = replace(rl.Settings.demo(), reward=Accuracy(), on=Resources(nodes=2, gpus_per_node=8))


def stage(
    services: Sequence[Service] = (SEARCH,), settings: rl.Settings = SETTINGS, policy: str = "/models/a"
) -> Stage:
    train, validation = DATA / "train", DATA / "validation"
    return rl.stage("rl", policy=policy, train=train, validation=validation, settings=settings, services=services)


def test_what_a_service_needs_is_needed_by_the_stage_under_both_names() -> None:
    found = stage([SEARCH, replace(SEARCH, name="other", needs={"index": "/data/index"})])
    assert found.needs["search.index"] == DATA / "index"
    paths = found.input_paths(Path("/runs/a"))
    services = found.config.services
    assert rl.inputs_of(services["search"], paths) == {"index": Path("/runs/a/data/index")}
    assert rl.inputs_of(services["other"], paths) == {"index": Path("/data/index")}


def test_services_are_part_of_the_fingerprint_and_the_node_s_resources_are_not() -> None:
    changes = [
        stage([]),
        stage([replace(SEARCH, command=("sh", "-x", "{index}"))]),
        stage([replace(SEARCH, nodes=2)]),
        stage([replace(SEARCH, name="find")]),
        stage([SEARCH, replace(SEARCH, name="find")]),
    ]
    prints = {each.fingerprint() for each in [stage(), *changes]}
    assert len(prints) == 1 + len(changes)
    larger = replace(SETTINGS, on=Resources(nodes=4, gpus_per_node=8))
    assert stage(settings=larger).fingerprint() == stage().fingerprint()


def test_two_services_of_one_name_are_refused_in_the_recipe() -> None:
    with refused("service.duplicate-name", name="search"):
        stage([SEARCH, SEARCH])


@pytest.mark.parametrize(
    ("code", "nodes", "services"),
    [
        ("ray.no-training-node", 2, [replace(SEARCH, nodes=2)]),
        ("ray.no-training-node", 3, [SEARCH, replace(SEARCH, name="find", nodes=2)]),
        ("ray.no-training-node", 1, [replace(SEARCH, nodes=2)]),
        ("ray.node-too-small", 1, [replace(SEARCH, gpus=4), replace(SEARCH, name="find", gpus=4)]),
        ("ray.node-too-small", 2, [replace(SEARCH, nodes=0, gpus=8)]),
        ("service.too-few-gpus", 2, [replace(SEARCH, gpus=9)]),
        ("service.no-program", 2, [replace(SEARCH, command=("/no/such/server",))]),
    ],
)
def test_what_does_not_add_up_is_refused_before_anything_is_sent(
    code: str, nodes: int, services: list[Service]
) -> None:
    found = stage(services, replace(SETTINGS, on=Resources(nodes=nodes, gpus_per_node=8)))
    with refused(code):
        rl.validate(found, PROFILE)


def test_what_adds_up_is_not_refused() -> None:
    rl.validate(stage(), PROFILE)
    rl.validate(stage(settings=replace(SETTINGS, on=Resources(nodes=1, gpus_per_node=1))), PROFILE)
    rl.validate(stage([replace(SEARCH, nodes=0, gpus=2), replace(SEARCH, name="find")]), PROFILE)


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PROFILE, container=Container(runtime="apptainer", image="a.sif")),
        replace(PROFILE, environment=Environment(modules=["search/2"])),
        replace(PROFILE, environment=Environment(variables={"PATH": "/opt/search"})),
    ],
)
def test_a_program_is_not_looked_for_where_jobs_have_others(elsewhere: Profile) -> None:
    rl.validate(stage([replace(SEARCH, command=("/no/such/server",))]), elsewhere)


def test_the_proxy_is_a_service_beside_those_of_the_recipe_unless_the_reward_does_not_ask_it() -> None:
    settings = rl_with_proxy.Settings(
        proxy=ProxySettings(tensor_parallel_size=2), proxy_nodes=1, on=Resources(nodes=3, gpus_per_node=8)
    )
    inputs = {"policy": "/models/a", "proxy": "/models/p", "train": DATA / "train", "validation": DATA / "validation"}
    found = rl_with_proxy.stage("rl", settings=settings, services=[SEARCH], **inputs)
    assert [*found.config.services] == ["proxy", "search"]
    assert found.needs["proxy.checkpoint"].path == "/models/p"
    assert found.prompts == ("proxy",)
    rl.validate(found, PROFILE)
    without = rl_with_proxy.stage("rl", settings=replace(settings, reward=Accuracy()), **inputs)
    assert ([*without.config.services], without.prompts) == ([], ())
    assert not [label for label in without.needs if label.startswith("proxy")]
    with refused("rl.no-service", name="proxy", known=[]):
        rl.validate(rl_with_proxy.stage("rl", settings=replace(settings, proxy=None), **inputs), PROFILE)
