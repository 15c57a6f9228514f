# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Functions for shell tests, in a guest. Their lines are like libtest's. guest_script puts this file
# before a test script, which ends with `results`.
export LC_ALL=C
passed=0 failed=0 ignored=0
said=$(mktemp) || exit 1

# tell TEXT: writes to the console, where the watchdog on the host sees progress and the running test.
tell() { echo "$*" >/dev/kmsg; }

# run GROUP NAME [ARGUMENT]...: runs the test function NAME with its arguments. Prints its output if it
# fails, the last line of its output if not.
run() {
	local name start=$EPOCHREALTIME took
	name=$1::$2
	[ $# = 2 ] || name+="($3)"
	shift
	tell "test $name begins"
	if "$@" >"$said" 2>&1; then
		passed=$((passed + 1))
		took=$(((${EPOCHREALTIME/./} - ${start/./}) / 100000))
		printf 'test %s ... ok (%d.%d s)' "$name" $((took / 10)) $((took % 10))
		[ ! -s "$said" ] || printf ': %s' "$(tail -n 1 "$said")"
		printf '\n'
	else
		failed=$((failed + 1))
		printf 'test %s ... FAILED\n' "$name"
		sed 's/^/    /' "$said"
	fi
}

# ignore GROUP NAME WHY: reports a test as ignored.
ignore() {
	ignored=$((ignored + 1))
	printf 'test %s::%s ... ignored, %s\n' "$1" "$2" "$3"
}

results() {
	printf 'test result: %s. %d passed; %d failed; %d ignored\n' "$( ((failed)) && echo FAILED || echo ok)" $passed $failed $ignored
	((failed == 0))
}

# expect_eq SEEN EXPECTED WHAT
expect_eq() { [ "$1" = "$2" ] || { echo "$3: expected '$2', got '$1'"; return 1; }; }

# expect_at_most SEEN LIMIT WHAT
expect_at_most() { (($1 <= $2)) || { echo "$3: at most $2 expected, got $1"; return 1; }; }

# is_loaded MODULE
is_loaded() { grep -q "^$1 " /proc/modules; }

# blocks_in_use DIRECTORY: prints the number of blocks of 4096 bytes in use on its filesystem.
blocks_in_use() { stat -f -c '%b %f %S' "$1" | { read -r all free size && echo $(((all - free) * size / 4096)); }; }
