#!/usr/bin/env bash
# Compile the locks. No index address is written: clusters install from mirrors.
set -euo pipefail
cd "$(dirname "$0")"
# What root leaves in a user's checkout, its owner can neither change nor remove.
if [ "$(id -u)" = 0 ] && owner=$(stat -c %U .) && [ "$(stat -c %u .)" != 0 ]; then
    echo "lock: this checkout belongs to $owner, and you are root: become $owner, or use a checkout of your own" >&2
    exit 2
fi
for kind in cpu gpu; do
    ../.venv/bin/python -m uv pip compile "$kind.in" --override overrides.txt --generate-hashes \
        --no-emit-index-url --no-annotate --no-header --python-version 3.11 --quiet --output-file "$kind.txt"
done
