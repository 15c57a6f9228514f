# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Counting what several test programs said, suspicious of each: one that ends without its
# result, or with a status that its result does not explain, counts as a failure.

PASSED=0 FAILED=0 SKIPPED=0

# count_libtest TITLE COMMAND...: runs it, shows its output, adds up its `test result:` lines.
count_libtest() {
	local title=$1 log status=0 line results=0 failed_before=$FAILED
	shift
	log=$(mktemp)
	printf '\n==== %s\n' "$title"
	# A pipe would hide the status and a plain run the output.
	"$@" > >(tee "$log") || status=$?
	wait $! 2>/dev/null || true
	while read -r line; do
		[[ $line =~ ([0-9]+)\ passed\;\ ([0-9]+)\ failed\;\ ([0-9]+)\ ignored ]] || continue
		results=$((results + 1))
		PASSED=$((PASSED + BASH_REMATCH[1]))
		FAILED=$((FAILED + BASH_REMATCH[2]))
		SKIPPED=$((SKIPPED + BASH_REMATCH[3]))
	done < <(grep '^test result:' "$log" || true)
	if ((results == 0)); then
		FAILED=$((FAILED + 1))
		printf '%s: FAILED (status %d, and no result)\n' "$title" "$status"
	elif ((status != 0 && FAILED == failed_before)); then
		FAILED=$((FAILED + 1))
		printf '%s: FAILED (status %d, although no test failed)\n' "$title" "$status"
	fi
	rm -f "$log"
}

print_totals() {
	printf '\n%d passed, %d failed, %d skipped\n' $PASSED $FAILED $SKIPPED
	((FAILED == 0 && PASSED > 0))
}
