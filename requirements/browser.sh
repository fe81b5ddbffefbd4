#!/usr/bin/env bash
# Print the path of a Chromium for the tests of the HTML report, installing Debian's headless one where there is none
# (64 MB to fetch). A machine that has a browser keeps it; without root, set PROXYGRM_BROWSER to one.
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

root=()
[[ $(id -u) == 0 ]] || root=(sudo -n)
if ! command -v apt-get >/dev/null || ! "${root[@]}" true 2>/dev/null; then
    echo "browser: no Chromium here and no way to install one: put its path into PROXYGRM_BROWSER" >&2
    exit 2
fi
mkdir -p .local
exec 9>.local/browser.lock
flock 9
find_browser && exit 0 # another one has installed it meanwhile
apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq -y --no-install-recommends)
echo "browser: installing chromium-headless-shell with apt (64 MB; log: .local/browser.log)" >&2
if ! "${apt[@]}" install chromium-headless-shell >.local/browser.log 2>&1; then
    { "${apt[@]}" update && "${apt[@]}" install chromium-headless-shell; } >>.local/browser.log 2>&1 || {
        echo "browser: apt could not install it: $(tail -n 1 .local/browser.log)" >&2
        exit 2
    }
fi
find_browser
