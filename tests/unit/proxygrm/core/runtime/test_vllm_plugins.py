from __future__ import annotations

from pathlib import Path

from proxygrm.core.runtime.vllm_plugins import plugins
from proxygrm.serving.replicas.command import ReplicaSpec, serve_environment
from proxygrm.serving.settings import ProxySettings
from slurm.ray.node import child_environment
from slurm.ray.plan import NodeRecord, plan_cluster


def test_vllm_loads_a_users_plugin_and_neither_ms_swifts_nor_one_that_fetches_adapters(tmp_path, monkeypatch):
    metadata = tmp_path / "their_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[vllm.general_plugins]\ntheirs = theirs:register\n[vllm.platform_plugins]\ntheir_chip = theirs:chip\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    loaded = plugins({})["VLLM_PLUGINS"].split(",")
    assert {"theirs", "their_chip", "lora_filesystem_resolver"} <= set(loaded)
    assert {"swift_uembed", "lora_hf_hub_resolver"}.isdisjoint(loaded)


def test_every_vllm_of_a_job_gets_the_same_list_or_the_users_own(monkeypatch):
    spec = ReplicaSpec("p", "node", "model", "127.0.0.1", "cpu", (), Path("logs"), ProxySettings())
    plan = plan_cluster([NodeRecord(0, "a", "127.0.0.1")], 1, ())

    def of_ray() -> dict[str, str]:
        return child_environment(plan, 0, Path("token"), "lo", "cpu")

    monkeypatch.delenv("VLLM_PLUGINS", raising=False)
    assert serve_environment(spec, "key", {})["VLLM_PLUGINS"] == of_ray()["VLLM_PLUGINS"] == plugins({})["VLLM_PLUGINS"]
    monkeypatch.setenv("VLLM_PLUGINS", "mine")
    assert (
        serve_environment(spec, "key", {"VLLM_PLUGINS": "mine"})["VLLM_PLUGINS"] == of_ray()["VLLM_PLUGINS"] == "mine"
    )
