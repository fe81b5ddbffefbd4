#!/usr/bin/env bash
# Make .venv of this checkout, with the uv of a lock in it: requirements/venv.sh PYTHON LOCK
#
# What an earlier set-up was cut off in the middle of is made again; what it cannot have made is set aside, never
# deleted. A Debian without python3-venv serves too: there the venv has no pip, and uv comes by another way.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
# The lock's own lines of uv, its hashes with them: what installs everything else is checked as everything else is.
uv=.local/uv.txt
mkdir -p .local
sed -n '/^uv==/,/[^\\]$/p' "$2" >"$uv"
grep -q -- --hash= "$uv" || { echo "setup: $2 has no uv with a hash in it: make lock" >&2; exit 2; }
stamp=.venv/.proxygrm-setup unfinished=unfinished

say() { printf 'setup: %s\n' "$*" >&2; }
empty() { find .venv/ -mindepth 1 -delete; } # .venv may be a link to a larger disk
works() { # it runs, has a version that serves, and was made for this place
    .venv/bin/python -c 'import os, sys
sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13) or not os.path.samefile(sys.prefix, ".venv"))' 2>/dev/null
}

if [ "$(cat "$stamp" 2>/dev/null || true)" = "$unfinished" ]; then
    say "the last set-up was cut off; .venv is made again"
    empty
elif [ -e .venv ] && [ -n "$(find .venv/ -mindepth 1 -print -quit)" ] && ! works; then
    aside=.venv.$(date +%Y%m%d-%H%M%S).$$
    say "the .venv here does not work (half made, or its Python is gone); it is now $aside, delete it when you like"
    mv .venv "$aside"
fi

if ! [ -e .venv/bin/python ]; then
    mkdir -p .venv
    echo "$unfinished" >"$stamp"
    at=$(realpath .venv) # venv itself refuses a link
    if ! told=$("$python" -m venv "$at" 2>&1); then
        empty
        echo "$unfinished" >"$stamp"
        "$python" -m venv --without-pip "$at" || { say "$python cannot make a virtual environment: $told"; exit 2; }
    fi
fi

debian_pip() { # print the path of Debian's pip, a wheel that runs as it is; no root needed, nothing is installed
    local folder=$PWD/.local/pip apt
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    mkdir -p "$folder/lists/partial"
    apt=(apt-get -qq -o "Dir::Cache=$folder" -o Debug::NoLocking=1 -o "APT::Sandbox::User=$(id -un)")
    (
        cd "$folder"
        "${apt[@]}" download python3-pip-whl && exit
        apt+=(-o "Dir::State::lists=$folder/lists") # this machine's package lists are absent or old
        "${apt[@]}" update && "${apt[@]}" download python3-pip-whl
    ) >"$folder/log" 2>&1 && dpkg -x "$folder"/python3-pip-whl_*.deb "$folder" &&
        ls "$folder"/usr/share/python-wheels/pip-*.whl
}

new=.venv/bin/python checked=(--no-deps --require-hashes -r "$uv")
pip_install=(install --quiet --disable-pip-version-check --only-binary :all: "${checked[@]}")
$new -m uv --version >/dev/null 2>&1 && exit
if $new -m pip --version >/dev/null 2>&1; then
    $new -m pip "${pip_install[@]}"
elif command -v uv >/dev/null && uv pip install --quiet --python $new "${checked[@]}"; then
    :
elif "$python" -m pip --python $new "${pip_install[@]}" 2>/dev/null; then
    :
elif pip=$(debian_pip) && PYTHONPATH=$pip $new -m pip "${pip_install[@]}"; then
    rm -rf .local/pip
else
    say "$python has no ensurepip and there is no other pip here: apt-get install python3-venv, or put uv" \
        "(https://docs.astral.sh/uv) on PATH, or name another Python with PYTHON=/path/to/python3.11; then make setup"
    exit 2
fi
