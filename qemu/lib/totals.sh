# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Runs several test programs, two at a time, and adds up their results. A program that ends without
# a result, or with a status that its result does not explain, counts as a failure.

PASSED=0 FAILED=0 SKIPPED=0

# A guest keeps one processor of this machine busy, seldom two.
PARTS_AT_ONCE=2

# The time, in seconds from the start of this program, at which the guests of parts are stopped.
# Empty: a guest is stopped only when it is stuck.
PARTS_END=

# The parts in the order of their start: titles and processes; the number of parts shown so far;
# the numbers of those that failed.
PART_TITLES=() PART_PIDS=()
PARTS_SHOWN=0
PARTS_FAILED=()
PARTS_DIR=

# count_libtest TITLE COMMAND...: starts the command in the background, as soon as fewer than
# PARTS_AT_ONCE run. Shows its output when it has ended, and adds up its `test result:` lines.
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
		# In this shell, for the times of its children.
		times >"$PARTS_DIR/$number.times"
		echo $status $((SECONDS - start)) >"$PARTS_DIR/$number.status"
	) >"$PARTS_DIR/$number.log" 2>&1 </dev/null &
	PART_TITLES+=("$title") PART_PIDS+=($!)
}

# processor_seconds: prints the seconds of the children in the output of bash's `times` on stdin.
processor_seconds() {
	awk 'NR == 2 { for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); sum += t[1] * 60 + t[2] } } END { printf "%d", sum }'
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

# show_parts: shows the parts that have ended, in the order of their start.
show_parts() {
	while ((PARTS_SHOWN < ${#PART_PIDS[@]})) && ! kill -0 "${PART_PIDS[PARTS_SHOWN]}" 2>/dev/null; do
		wait "${PART_PIDS[PARTS_SHOWN]}" 2>/dev/null || true
		show_part "$PARTS_SHOWN"
		PARTS_SHOWN=$((PARTS_SHOWN + 1))
	done
}

# show_part NUMBER: prints the part's output and adds up its results.
show_part() {
	local title=${PART_TITLES[$1]} log=$PARTS_DIR/$1.log status=unknown seconds=0 line results=0 failed_before=$FAILED unexplained=''
	# A killed part has no status file.
	[ ! -e "$PARTS_DIR/$1.status" ] || read -r status seconds <"$PARTS_DIR/$1.status"
	printf '\n==== %s (%s)\n' "$title" "$(elapsed "$seconds")"
	cat "$log"
	note_times "$1" "$seconds"
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

# note_times NUMBER SECONDS: adds a part to the table of times, with the parts of its guest.
note_times() {
	local processor=0
	[ ! -e "$PARTS_DIR/$1.times" ] || processor=$(processor_seconds <"$PARTS_DIR/$1.times")
	{
		printf '%-60s %8s %10s\n' "${PART_TITLES[$1]}" "$(elapsed "$2")" "$(elapsed "$processor")"
		sed -nE 's/^---- end of (.*): status [0-9]+, ([0-9]+) s$/\1 \2/p' "$PARTS_DIR/$1.log" |
			while read -r part seconds; do printf '    %-56s %8s\n' "$part" "$(elapsed "$seconds")"; done
	} >>"$PARTS_DIR/times"
}

# print_times: prints the table of times, by the clock and of the processors.
print_times() {
	[ ! -e "$PARTS_DIR/times" ] || { printf '\n%-60s %8s %10s\n' 'part' time processor; cat "$PARTS_DIR/times"; }
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

# said_of_failures LOG: prints the first 40 lines about failures: of libtest (a separate section), of
# shell tests (indented, after a test's line), of KUnit (before the test's line), and of these scripts.
said_of_failures() {
	awk 'function show() { if (++shown <= 40) print }
		/^failures:$/ { details = 1; next }
		/^test result:/ { details = 0; next }
		/^\[FAILED\]/ { details = 0; show(); next }
		/ (EXPECTATION|ASSERTION) FAILED at / { details = 1 }
		/^test .* \.\.\. FAILED/ { indented = 1; show(); next }
		indented && !/^    / { indented = 0 }
		indented || details || /: FAILED \(status / || /^(vm|reflinkfs(: error|_kunit)): / { show() }
		END { if (shown > 40) print "(" shown - 40 " lines more)" }' "$1"
}

# wait_for_parts: waits for all parts, and shows them.
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
