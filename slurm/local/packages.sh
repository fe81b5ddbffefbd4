#!/usr/bin/env bash
# Make SLURM's programs, MariaDB and shellcheck available to this checkout.
#
#   all installed           nothing is done (well under a second)
#   root                    Debian's packages through apt; no daemon of theirs is started
#   PROXYGRM_SUDO=1         the same, through `sudo -n`
#   neither                 the same packages unpacked under .local/debian; nothing outside the checkout changes
#
# sudo is used only with PROXYGRM_SUDO=1.
# On a machine with a site's SLURM that is not changed: missing programs are unpacked, also for root.
# PROXYGRM_FORCE_UNPACK=1 unpacks in any case.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
local_dir=$here/.local
unpacked=$local_dir/debian
force=${PROXYGRM_FORCE_UNPACK:-0}
[[ -n $force ]] || force=0

# The list in binaries.py, plus the linter.
programs=(slurmctld slurmd slurmstepd slurmdbd munged munge mariadbd mariadb-install-db my_print_defaults
    sbatch srun squeue scancel scontrol sinfo sacct sacctmgr shellcheck)
# The core packages of MariaDB have no service.
packages=(slurmctld slurmd slurmdbd slurm-client munge mariadb-server-core mariadb-client-core shellcheck)

say() { printf 'packages: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 2
}

have_all() { # folder...: whether every program is in one of them (with none: on PATH or in the system's folders)
    local name folder found
    local folders=("$@")
    if ((${#folders[@]} == 0)); then
        IFS=: read -ra folders <<<"$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    fi
    for name in "${programs[@]}"; do
        found=0
        for folder in "${folders[@]}"; do
            [[ -x $folder/$name && ! -d $folder/$name ]] && found=1 && break
        done
        ((found)) || return 1
    done
}

satisfied() {
    if [[ $force == 0 ]] && have_all; then return 0; fi
    have_all "$unpacked/usr/sbin" "$unpacked/usr/bin"
}

satisfied && exit 0

if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    fail "no complete SLURM here and no apt to fetch it: install slurmctld, slurmd, slurmdbd, munge and MariaDB"
fi
if ! mkdir -p "$local_dir" 2>/dev/null || [[ ! -w $local_dir ]]; then
    fail "$local_dir cannot be written"
fi
# shellcheck source=requirements/one_at_a_time.sh
. "$here/requirements/one_at_a_time.sh"
one_at_a_time "$local_dir/packages.lock" 900 "slurm packages"
satisfied && exit 0 # another one has done it meanwhile

site_has_slurm() { # SLURM that is configured, or that did not come from a package
    local tool
    for tool in /etc/slurm/slurm.conf /etc/slurm-llnl/slurm.conf /usr/local/etc/slurm.conf; do
        [[ -e $tool ]] && return 0
    done
    for tool in sinfo slurmctld slurmd; do
        tool=$(command -v "$tool") || continue
        dpkg -S "$tool" >/dev/null 2>&1 || dpkg -S "$(readlink -f "$tool")" >/dev/null 2>&1 || return 0
    done
    return 1
}

# -- through apt ---------------------------------------------------------------------------------------------

install_with_apt() {
    local unit root=() done_ok=1
    [[ $(id -u) == 0 ]] || root=(sudo -n)
    local -A before=()
    for unit in munge slurmctld slurmd slurmdbd; do
        [[ -e /lib/systemd/system/$unit.service ]] && before[$unit]=1
    done
    say "installing ${packages[*]} with apt (31 MB; log: $local_dir/apt.log)"
    "$here/requirements/apt.sh" "${packages[@]}" || done_ok=0
    if [[ -d /run/systemd/system ]]; then # nor at the next boot
        for unit in munge slurmctld slurmd slurmdbd; do
            [[ -n ${before[$unit]:-} ]] || "${root[@]}" systemctl disable --now -q "$unit" >/dev/null 2>&1 || true
        done
    fi
    ((done_ok))
}

# -- without root --------------------------------------------------------------------------------------------

unpack() {
    local cache=$local_dir/debian-cache log=$local_dir/packages.log fresh=$local_dir/debian.new
    local apt deb name wanted=()
    mkdir -p "$cache/debs/partial" "$cache/lists/partial"
    rm -rf "$fresh" && mkdir -p "$fresh"

    # What these packages need in all, counted from nothing, less what this machine has; their own families
    # are fetched whatever it has. (Hiding them from dpkg's list instead would break what depends on them.)
    : >"$cache/status"
    apt=(apt-get -qq -o "Dir::State::status=$cache/status" -o "Dir::Cache=$cache" -o Debug::NoLocking=1
        -o "Dir::Cache::archives=$cache/debs" -o "APT::Sandbox::User=$(id -un)")

    plan() { # NAME=VERSION of each package to fetch
        "${apt[@]}" -s --no-install-recommends install "${packages[@]}" 2>>"$log" |
            awk -v installed="$cache/installed" '
                BEGIN { while ((getline line < installed) > 0) have[line] = 1 }
                $1 != "Inst" || ($2 in have && $2 !~ /^(slurm|libslurm|munge|libmunge|mariadb|libmariadb|shellcheck)/) { next }
                { version = $0; sub(/^[^(]*\(/, "", version); sub(/ .*/, "", version); print $2 "=" version }'
    }
    dpkg-query -W -f '${db:Status-Status} ${Package}\n' | awk '$1 == "installed" { print $2 }' >"$cache/installed"
    : >"$log"
    say "unpacking ${packages[*]} under $unpacked (no root needed; log: $log)"
    mapfile -t wanted < <(plan)
    if ((${#wanted[@]} == 0)) || ! (cd "$cache/debs" && "${apt[@]}" download "${wanted[@]}" >>"$log" 2>&1); then
        # The machine's package lists are absent or old: fetch some of our own.
        apt+=(-o "Dir::State::lists=$cache/lists")
        "${apt[@]}" update >>"$log" 2>&1 || return 1
        mapfile -t wanted < <(plan)
        ((${#wanted[@]})) || return 1
        (cd "$cache/debs" && "${apt[@]}" download "${wanted[@]}" >>"$log" 2>&1) || return 1
    fi
    for name in "${wanted[@]}"; do
        deb=("$cache/debs/${name%%=*}"_*.deb)
        dpkg -x "${deb[-1]}" "$fresh" >>"$log" 2>&1 || return 1
    done
    # What the packages' own scripts would have linked.
    for name in slurmctld slurmd slurmstepd; do
        [[ -e $fresh/usr/sbin/$name ]] || ln -s "$name-wlm" "$fresh/usr/sbin/$name"
    done
    have_all "$fresh/usr/sbin" "$fresh/usr/bin" || return 1
    rm -rf "$unpacked"
    mv "$fresh" "$unpacked"
    rm -rf "$cache"
}

# -- choice --------------------------------------------------------------------------------------------------

if [[ $force == 0 ]] && ! site_has_slurm && [[ $(id -u) == 0 || ${PROXYGRM_SUDO:-} == 1 ]]; then
    install_with_apt && satisfied && exit 0
    say "apt could not install them; trying to unpack them instead"
fi
unpack && satisfied && exit 0
fail "SLURM's packages could neither be installed nor unpacked: $(tail -n 1 "$local_dir/packages.log") (log: $local_dir/packages.log; is a package mirror in reach?)"
