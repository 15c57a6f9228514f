# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Long steps: writes their output to a log, shows progress, and kills every child on exit.

STEP_PID=
STEP_HINT= # a possible reason for a failure of the next step

# kill_tree PID: kills the process and all its descendants. KILL, because unshare(1)
# blocks INT and TERM while it waits; its children die with it (--kill-child).
kill_tree() {
	local child
	for child in $(ps -o pid= --ppid "$1" 2>/dev/null); do kill_tree "$child"; done
	kill -KILL "$1" 2>/dev/null || true
}

step_abort() {
	trap - INT TERM HUP
	[ -z "$STEP_PID" ] || { kill_tree "$STEP_PID"; wait "$STEP_PID" 2>/dev/null || true; }
	printf '\n' >&2
	say "interrupted; the next run does this step again"
	exit 130
}

# step [-n TOTAL [-m REGEX]] LOG TITLE COMMAND...: runs COMMAND (a function, usually)
# with its output in LOG. TOTAL is the expected number of lines matching REGEX.
step() {
	local total='' regex='^  [A-Z]' log title start now last=0 every=30 done_lines rc progress
	while [[ $1 == -[nm] ]]; do
		case $1 in -n) total=$2 ;; -m) regex=$2 ;; esac
		shift 2
	done
	log=$1 title=$2
	shift 2
	[ -t 2 ] && every=1
	start=$SECONDS
	mkdir -p "$(dirname "$log")"
	say "$title (log: $log)"
	(set -e; "$@") >"$log" 2>&1 </dev/null &
	STEP_PID=$!
	trap step_abort INT TERM HUP
	while kill -0 "$STEP_PID" 2>/dev/null; do
		sleep 0.5
		now=$((SECONDS - start))
		((now - last >= every)) || continue
		last=$now
		progress=
		if [ -n "$total" ]; then
			done_lines=$(grep -c -E "$regex" "$log" || true)
			((done_lines == 0)) || progress=", about $done_lines of $total objects"
		fi
		if [ -t 2 ]; then
			printf '\r\033[K%s' "reflinkfs: $title: $(elapsed "$now")$progress" >&2
		else
			say "$title: $(elapsed "$now")$progress"
		fi
	done
	rc=0
	wait "$STEP_PID" || rc=$?
	STEP_PID=
	trap - INT TERM HUP
	[ ! -t 2 ] || printf '\r\033[K' >&2
	if ((rc)); then
		printf '%s\n' "---- the end of $log" >&2
		tail -n 40 "$log" >&2
		printf '%s\n' '----' >&2
		die "$title failed (status $rc); ${STEP_HINT:+$STEP_HINT; }see the whole log: $log"
	fi
	say "$title: done in $(elapsed $((SECONDS - start)))"
}
