# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Running several test programs, two at a time, and counting what they said, suspicious of each:
# one that ends without its result, or with a status that its result does not explain, counts as
# a failure.

PASSED=0 FAILED=0 SKIPPED=0

# A guest keeps one of our processors busy, seldom two.
PARTS_AT_ONCE=2

# By the order in which they were started: titles, processes; how many have been shown.
PART_TITLES=() PART_PIDS=()
PARTS_SHOWN=0
PARTS_DIR=

# count_libtest TITLE COMMAND...: runs it in the background as soon as there is room. What it says
# is shown when it has ended, and its `test result:` lines are added up.
count_libtest() {
	local title=$1 number=${#PART_TITLES[@]}
	shift
	if [ -z "$PARTS_DIR" ]; then
		PARTS_DIR=$(mktemp -d "${TMPDIR:-/tmp}/reflinkfs-test.XXXXXX")
		trap 'end_parts' EXIT
		trap 'exit 130' INT TERM HUP
	fi
	while (($(running_parts) >= PARTS_AT_ONCE)); do
		sleep 0.5
		show_parts
	done
	say "testing: $title"
	(
		status=0 start=$SECONDS
		"$@" || status=$?
		echo $status $((SECONDS - start)) >"$PARTS_DIR/$number.status"
	) >"$PARTS_DIR/$number.log" 2>&1 </dev/null &
	PART_TITLES+=("$title") PART_PIDS+=($!)
}

running_parts() {
	local i n=0
	for i in "${!PART_PIDS[@]}"; do
		! kill -0 "${PART_PIDS[i]}" 2>/dev/null || n=$((n + 1))
	done
	echo $n
}

end_parts() {
	local pid
	trap - INT TERM HUP EXIT
	for pid in "${PART_PIDS[@]:$PARTS_SHOWN}"; do kill_tree "$pid"; done
	rm -rf "$PARTS_DIR"
}

# show_parts: those that have ended, in the order in which they were started.
show_parts() {
	while ((PARTS_SHOWN < ${#PART_PIDS[@]})) && ! kill -0 "${PART_PIDS[PARTS_SHOWN]}" 2>/dev/null; do
		wait "${PART_PIDS[PARTS_SHOWN]}" 2>/dev/null || true
		show_part "$PARTS_SHOWN"
		PARTS_SHOWN=$((PARTS_SHOWN + 1))
	done
}

# show_part NUMBER: prints and counts.
show_part() {
	local title=${PART_TITLES[$1]} log=$PARTS_DIR/$1.log status=unknown seconds=0 line results=0 failed_before=$FAILED
	# Not there where it was killed.
	[ ! -e "$PARTS_DIR/$1.status" ] || read -r status seconds <"$PARTS_DIR/$1.status"
	printf '\n==== %s (%s)\n' "$title" "$(elapsed "$seconds")"
	cat "$log"
	while read -r line; do
		[[ $line =~ ([0-9]+)\ passed\;\ ([0-9]+)\ failed\;\ ([0-9]+)\ ignored ]] || continue
		results=$((results + 1))
		PASSED=$((PASSED + BASH_REMATCH[1]))
		FAILED=$((FAILED + BASH_REMATCH[2]))
		SKIPPED=$((SKIPPED + BASH_REMATCH[3]))
	done < <(grep '^test result:' "$log" || true)
	if ((results == 0)); then
		FAILED=$((FAILED + 1))
		printf '%s: FAILED (status %s, and no result)\n' "$title" "$status"
	elif [ "$status" != 0 ] && ((FAILED == failed_before)); then
		FAILED=$((FAILED + 1))
		printf '%s: FAILED (status %s, although no test failed)\n' "$title" "$status"
	fi
}

# wait_for_parts: all of them.
wait_for_parts() {
	while ((PARTS_SHOWN < ${#PART_PIDS[@]})); do
		show_parts
		sleep 0.5
	done
}

print_totals() {
	wait_for_parts
	printf '\n%d passed, %d failed, %d skipped\n' $PASSED $FAILED $SKIPPED
	((FAILED == 0 && PASSED > 0))
}
