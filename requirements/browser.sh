#!/usr/bin/env bash
# Print the path of a Chromium for the tests of the HTML report, installing Debian's headless one where there is none
# (64 MB to fetch). A machine that has a browser keeps it. Who is not root sets PROXYGRM_BROWSER to one, or
# allows sudo with PROXYGRM_SUDO=1.
set -euo pipefail
cd "$(dirname "$0")/.."

names=("${PROXYGRM_BROWSER:-}" chromium-headless-shell chromium chromium-browser google-chrome google-chrome-stable)
find_browser() {
    local name
    for name in "${names[@]}"; do
        [[ -n $name ]] && command -v "$name" && return 0
    done
    return 1
}
find_browser && exit 0

mkdir -p .local
. requirements/one_at_a_time.sh
one_at_a_time .local/browser.lock 3600 browser
find_browser && exit 0 # another one has installed it meanwhile
echo "browser: installing chromium-headless-shell with apt (64 MB; log: .local/apt.log)" >&2
requirements/apt.sh chromium-headless-shell || {
    [[ $? != 3 ]] || { echo "browser: no Chromium here and no leave to install one: put its path into" \
        "PROXYGRM_BROWSER, or allow sudo with PROXYGRM_SUDO=1" >&2; exit 2; }
    echo "browser: apt could not install it: $(tail -n 1 .local/apt.log)" >&2
    exit 2
}
find_browser
