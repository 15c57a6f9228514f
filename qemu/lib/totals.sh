# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Running several test programs, two at a time, and counting what they said, suspicious of each:
# one that ends without its result, or with a status that its result does not explain, counts as
# a failure.

PASSED=0 FAILED=0 SKIPPED=0

# A guest keeps one of our processors busy, seldom two.
PARTS_AT_ONCE=2

# When, in seconds from the start of this program, the guests that parts have are stopped.
# Without it, when they are stuck.
PARTS_END=

# By the order in which they were started: titles, processes; how many have been shown; which of
# them failed.
PART_TITLES=() PART_PIDS=()
PARTS_SHOWN=0
PARTS_FAILED=()
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
		# shellcheck disable=SC2034 # for the command
		[ -z "$PARTS_END" ] || GUEST_LIMITS=(--timeout $((PARTS_END > SECONDS + 10 ? PARTS_END - SECONDS : 10)) --idle "$IDLE")
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
	local title=${PART_TITLES[$1]} log=$PARTS_DIR/$1.log status=unknown seconds=0 line results=0 failed_before=$FAILED unexplained=''
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
		unexplained='and no result'
	elif [ "$status" != 0 ] && ((FAILED == failed_before)); then
		unexplained='although no test failed'
	fi
	if [ -n "$unexplained" ]; then
		FAILED=$((FAILED + 1))
		printf '%s: FAILED (status %s, %s)\n' "$title" "$status" "$unexplained" | tee -a "$log"
	fi
	((FAILED == failed_before)) || PARTS_FAILED+=("$1")
}

# show_failures: once more at the end, where they are not missed; the whole logs stay.
show_failures() {
	local number kept
	for number in ${PARTS_FAILED[@]+"${PARTS_FAILED[@]}"}; do
		mkdir -p "$LOGS"
		kept=$LOGS/failed-$(date +%Y%m%d-%H%M%S)-$number.log
		cp "$PARTS_DIR/$number.log" "$kept"
		printf '\n==== failed: %s (log: %s)\n' "${PART_TITLES[number]}" "$kept"
		said_of_failures "$kept"
	done
}

# said_of_failures LOG: what libtest (in a part of its own), shell tests (indented, behind a test's
# line), KUnit (in front of it) and our own scripts say of what failed; the first 40 lines of it.
said_of_failures() {
	awk 'function show() { if (++shown <= 40) print }
		/^failures:$/ { details = 1; next }
		/^test result:/ { details = 0; next }
		/^\[FAILED\]/ { details = 0; show(); next }
		/ (EXPECTATION|ASSERTION) FAILED at / { details = 1 }
		/^test .* \.\.\. FAILED/ { indented = 1; show(); next }
		indented && !/^    / { indented = 0 }
		indented || details || /: FAILED \(status / || /^reflinkfs(: error|_kunit): / { show() }
		END { if (shown > 40) print "(" shown - 40 " lines more)" }' "$1"
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
	show_failures
	printf '\n%d passed, %d failed, %d skipped\n' $PASSED $FAILED $SKIPPED
	((FAILED == 0 && PASSED > 0))
}
