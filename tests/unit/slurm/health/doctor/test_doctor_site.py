"""What the scheduler answers, parsed, and compared with a profile. Without a cluster."""

from __future__ import annotations

import pytest

from slurm.health.doctor.site import Site, SiteNode, compare, minutes, parse_nodes, parse_partitions, parse_reservations
from slurm.profile import Node, Profile, Scheduler

SINFO = """\
n1|h100|idle|96|2063000|ib,h100|gpu:h100:8(S:0-1)
n2|h100|mixed|96|2063000|ib,h100|gpu:h100:8(S:0-1),tmp:100
n3|h100|drained*|96|2063000|ib|gpu:h100:8
n1|all|idle|96|2063000|ib,h100|gpu:h100:8(S:0-1)
c1|cpu|idle|64|256000|(null)|(null)
m1|mig|idle|64|256000|(null)|gpu:1g.10gb:7,gpu:2
torn line of a broken site script
"""
PARTITIONS = """\
PartitionName=h100 AllowAccounts=lab,other AllowQos=ALL Default=NO MaxNodes=16 MaxTime=2-00:00:00 State=UP
PartitionName=cpu AllowAccounts=ALL AllowQos=normal Default=YES MaxNodes=UNLIMITED MaxTime=UNLIMITED State=UP
PartitionName=old Default=NO MaxNodes=1 MaxTime=01:00:00 State=DOWN
"""
SITE = Site(
    parse_nodes(SINFO),
    parse_partitions(PARTITIONS),
    ("lab", "guest"),
    ("normal", "high"),
    parse_reservations("ReservationName=course State=ACTIVE\nReservationName=later State=INACTIVE\n"),
)
H100 = Profile("site", scheduler=Scheduler(partition="h100"), node=Node(8, "h100", 96, 1900))


def findings(profile: Profile, site: Site = SITE) -> dict[str, tuple[str, str, str]]:
    return {f.check: (f.level, f.detail, f.remedy) for f in compare(site, profile)}


def with_scheduler(**values: object) -> Profile:
    return Profile("site", scheduler=Scheduler(**{"partition": "h100", **values}), node=H100.node)  # type: ignore[arg-type]


def test_a_profile_that_fits_has_nothing_to_fix() -> None:
    assert {level for level, _, _ in findings(H100).values()} == {"ok"}
    assert findings(H100)["nodes"][1] == "2 of 3 in h100 have h100:8, 96 CPUs, 1900 GB and can be used"


@pytest.mark.parametrize(
    ("profile", "check", "level", "words"),
    [
        (with_scheduler(partition="h10"), "partition", "fail", "did you mean h100?"),
        (with_scheduler(partition="old"), "partition", "fail", "old is not up"),
        (with_scheduler(cpu_partition="cpus"), "partition", "fail", "did you mean cpu?"),
        (with_scheduler(account="labb"), "account", "fail", "did you mean lab?"),
        (with_scheduler(account="guest"), "partition", "fail", "not open to account guest"),
        (with_scheduler(partition="cpu", qos="high"), "partition", "fail", "does not take QOS high"),
        (with_scheduler(qos="hihg"), "qos", "fail", "did you mean high?"),
        (with_scheduler(reservation="nope"), "reservation", "fail", "there is: course, later"),
        (with_scheduler(reservation="later"), "reservation", "warn", "later is inactive"),
        (with_scheduler(reservation="course"), "reservation", "ok", "course is active"),
        (with_scheduler(max_nodes=32), "limits", "fail", "scheduler.max_nodes = 16"),
        (with_scheduler(max_walltime_min=2881), "limits", "fail", "scheduler.max_walltime_min = 2880"),
        (with_scheduler(max_nodes=4), "nodes", "warn", "larger jobs would wait forever"),
        (with_scheduler(constraint="ib&nvme"), "constraint", "fail", "no node of h100 has nvme"),
        (
            Profile("s", scheduler=Scheduler(partition="h100"), node=Node(8, "a100", 96, 1900)),
            "nodes",
            "fail",
            "a100:8",
        ),
        (
            Profile("s", scheduler=Scheduler(partition="h100"), node=Node(8, "h100", 97, 1900)),
            "nodes",
            "fail",
            "97 CPUs",
        ),
        (
            Profile("s", scheduler=Scheduler(partition="h100"), node=Node(8, "h100", 96, 2063)),
            "nodes",
            "fail",
            "2063 GB",
        ),
        (
            Profile("s", scheduler=Scheduler(partition="mig"), node=Node(8, "", 64, 100)),
            "nodes",
            "fail",
            "1g.10gb:7 + gpu:2",
        ),
    ],
)
def test_what_the_site_does_not_have_is_said_with_what_it_has(
    profile: Profile, check: str, level: str, words: str
) -> None:
    lines = [f for f in compare(SITE, profile) if f.check == check]
    assert any(f.level == level and words in f"{f.detail} {f.remedy}" for f in lines), lines
    assert all(f.remedy for f in lines if f.level != "ok"), "every problem comes with a remedy"


def test_without_a_partition_the_site_s_default_is_meant() -> None:
    profile = Profile("s", node=Node(gpus=0, cpus=64, memory_gb=200))
    assert findings(profile)["partition"] == ("ok", "the site's default, cpu", "")
    none = Site(SITE.nodes, tuple(p for p in SITE.partitions if not p.default))
    assert findings(profile, none)["partition"][0] == "fail"


def test_nodes_that_fit_and_are_all_down_are_not_fit() -> None:
    down = Site(tuple(n for n in SITE.nodes if n.name == "n3"), SITE.partitions)
    assert findings(H100, down)["nodes"][:2] == ("fail", "all 1 of h100 that fit are drained*")


def test_where_accounting_cannot_be_asked_an_account_is_not_called_wrong() -> None:
    site = Site(SITE.nodes, SITE.partitions, None, None)
    assert "account" not in findings(with_scheduler(account="whatever"), site)


def test_gres_is_read_in_all_its_spellings() -> None:
    gpus = {(n.name, n.partition): n.gpus for n in parse_nodes(SINFO)}
    assert gpus["n2", "h100"] == (("h100", 8),)
    assert gpus["c1", "cpu"] == ()
    assert gpus["m1", "mig"] == (("1g.10gb", 7), ("", 2))
    assert parse_nodes("x|p|idle|1|1||gpu\n") == (SiteNode("x", "p", "idle", 1, 1, (), (("", 1),)),)


@pytest.mark.parametrize(
    ("text", "value"),
    [("90", 90), ("30:00", 30), ("02:00:00", 120), ("2-00:00:00", 2880), ("1-12", 2160), ("UNLIMITED", float("inf"))],
)
def test_slurm_s_times_are_read_in_minutes(text: str, value: float) -> None:
    assert minutes(text) == value
