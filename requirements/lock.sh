#!/usr/bin/env bash
# Compile the locks. No index address is written: clusters install from mirrors.
set -euo pipefail
cd "$(dirname "$0")"
for kind in cpu gpu; do
    ../.venv/bin/python -m uv pip compile "$kind.in" --override overrides.txt --generate-hashes \
        --no-emit-index-url --no-annotate --no-header --python-version 3.11 --quiet --output-file "$kind.txt"
done
