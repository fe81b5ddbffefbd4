#!/usr/bin/env bash
# Install Debian packages without starting what they bring:  requirements/apt.sh PACKAGE...
#
# As root with apt; as another user only where PROXYGRM_SUDO=1 says so, with `sudo -n`. Ends with 3 where neither is
# allowed here, with another code where apt failed (its last words stand in .local/apt.log).
#
# Debian starts the daemons of what it installs unless /usr/sbin/policy-rc.d says no. A site's own stays as it is; ours
# carries a mark with this process in it, so that the next run knows what a killed one has left.
set -euo pipefail
cd "$(dirname "$0")/.."
policy=/usr/sbin/policy-rc.d
mark='# made by proxygrm (requirements/apt.sh) while process'
log=.local/apt.log

root=()
if [[ $(id -u) != 0 ]]; then
    [[ ${PROXYGRM_SUDO:-} == 1 ]] && sudo -n true 2>/dev/null || exit 3
    root=(sudo -n)
fi
command -v apt-get >/dev/null || exit 3
mkdir -p .local
. requirements/one_at_a_time.sh
one_at_a_time .local/apt.lock 3600 apt

began() { # when a process began, in the kernel's ticks: tells it from a later one of the same number
    local text fields
    text=$(cat "/proc/$1/stat" 2>/dev/null) && read -ra fields <<<"${text##*) }" && echo "${fields[19]}"
}
state() { # of the policy: none, foreign, ours, left (by a run that has ended), busy (with another run)
    local line who when
    [[ -e $policy || -L $policy ]] || { echo none; return; }
    line=$(sed -n 2p "$policy" 2>/dev/null || true)
    [[ $line == "$mark "* ]] || { echo foreign; return; }
    read -r who when _ <<<"${line#"$mark "}"
    if [[ $who == "$$" && $when == "$(began $$)" ]]; then
        echo ours
    elif [[ -n $when && $when == "$(began "$who")" ]]; then
        echo busy
    else
        echo left
    fi
}
deny() { # put our policy where none is, or over what a killed run has left; never over another one
    local new=$policy.proxygrm-$$ waited=0
    while [[ $(state) == busy ]]; do # another checkout is at it, and takes its own away
        ((waited++ < 900)) || { echo "apt: another set-up has been installing for 15 minutes ($policy)" >&2; return 1; }
        sleep 1
    done
    printf '#!/bin/sh\n%s %s %s works; delete it when that has ended\nexit 101\n' "$mark" $$ "$(began $$)" |
        "${root[@]}" tee "$new" >/dev/null
    "${root[@]}" chmod 755 "$new"
    case $(state) in
    left) "${root[@]}" mv -f "$new" "$policy" ;;
    none) "${root[@]}" ln "$new" "$policy" 2>/dev/null || true ;; # whole at once, or another one came first
    esac
    "${root[@]}" rm -f "$new"
}
undo() {
    trap '' INT TERM HUP
    [[ $(state) != ours ]] || "${root[@]}" rm -f "$policy"
    "${root[@]}" rm -f "$policy.proxygrm-$$"
    let_go
}
# bash runs these only when apt has ended: until then no daemon may start.
trap undo EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
deny

apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq -y --no-install-recommends)
if ! "${apt[@]}" install "$@" >"$log" 2>&1; then
    { "${apt[@]}" update && "${apt[@]}" install "$@"; } >>"$log" 2>&1 || exit 1
fi
