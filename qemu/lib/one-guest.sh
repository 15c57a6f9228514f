# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Runs several parts in one guest: a boot of the debug kernel, and the search for memory leaks at its
# end, cost as much as a small part.

# one_guest_run KERNEL [OPTION]... -- [NAME COMMAND]...: runs the parts one after the other; a shell in the
# guest runs each COMMAND. Parts that did not run because the guest ended count as failed.
one_guest_run() {
	local options=() status log
	while [ "$1" != -- ]; do options+=("$1"); shift; done
	shift
	log=$(mktemp)
	"$QEMU_DIR/vm" --kernel "${options[@]}" "${GUEST_LIMITS[@]}" -- bash -c '
		while (($#)); do
			printf "\n---- part %s\n" "$1"
			status=0
			bash -c "$2" || status=$?
			printf "%s\n" "---- end of $1: status $status"
			shift 2
		done' - "$@" 2>&1 | time_parts | tee "$log"
	status=${PIPESTATUS[0]}
	while (($#)); do
		printf '%s\n' "$1"
		shift 2
	done | judge_parts "$log" || status=1
	rm -f "$log"
	return "$status"
}

# time_parts: copies stdin, and adds the time that each part took, by the clock of this machine.
time_parts() {
	local line start=$SECONDS
	while IFS= read -r line; do
		case $line in
		'---- part '*) start=$SECONDS ;;
		'---- end of '*) line+=", $((SECONDS - start)) s" ;;
		esac
		printf '%s\n' "$line"
	done
}

# judge_parts LOG: for each part named on stdin, fails if it did not run or end, has no result, or has a
# status that no failed test explains. The results of KUnit are in other files.
judge_parts() {
	local name part why failed=0
	while read -r name; do
		part=$(sed -n "/^---- part $name\$/,/^---- end of $name: /p" "$1")
		why=
		if [ -z "$part" ]; then
			why='it did not run: the guest ended before'
		elif ! grep -q "^---- end of $name: " <<<"$part"; then
			why='it has no end: the guest ended in it'
		elif ! grep -q '^test result:' <<<"$part" && [ "$name" != kunit ]; then
			why='it has no result'
		elif ! grep -q "^---- end of $name: status 0," <<<"$part" && ! grep -q '^test result: FAILED' <<<"$part"; then
			why='its status is not 0, although no test failed'
		fi
		[ -n "$why" ] || continue
		printf 'test parts::%s ... FAILED\n    %s\n' "$name" "$why"
		failed=$((failed + 1))
	done
	((failed == 0)) || printf 'test result: FAILED. 0 passed; %d failed; 0 ignored\n' "$failed"
	((failed == 0))
}
