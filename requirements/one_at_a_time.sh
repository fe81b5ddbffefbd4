# shellcheck shell=bash
# Sourced. `one_at_a_time FILE SECONDS WHO`: hold FILE until this shell ends; another one waits so long, then fails.
# Where the file system has no flock (Lustre without `-o flock`), FILE.held is created exclusively instead; a script
# that sets a trap of its own on EXIT calls `let_go` in it.
held_marker=
let_go() { [ -z "$held_marker" ] || rm -f -- "$held_marker"; }
one_at_a_time() {
    local file seconds=$2 who=$3 status=0 begun=$SECONDS
    file=$(realpath -m -- "$1")
    exec 9>"$file"
    flock -w "$seconds" 9 2>/dev/null || status=$?
    if [ "$status" = 1 ]; then # flock's own code for a lock that another one holds; all others are no lock at all
        echo "$who: another one has held $file for $seconds s" >&2
        exit 2
    fi
    [ "$status" = 0 ] && return
    until (set -o noclobber && echo "process $$ on $(uname -n), since $(date '+%F %T')" >"$file.held") 2>/dev/null; do
        if [ $((SECONDS - begun)) -ge "$seconds" ] || [ ! -e "$file.held" ]; then
            echo "$who: $(cat "$file.held" 2>/dev/null) is at work; if it has ended, remove $file.held" >&2
            exit 2
        fi
        sleep 0.2
    done
    held_marker=$file.held
    trap let_go EXIT
}
