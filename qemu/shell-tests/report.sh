# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# In a guest: what shell tests are written with. The lines are like libtest's; the script that this
# is put before ends with `results`.
export LC_ALL=C
passed=0 failed=0 ignored=0
said=$(mktemp) || exit 1

# tell TEXT: on the console, where the watchdog outside sees that something goes on, and what.
tell() { echo "$*" >/dev/kmsg; }

# run GROUP NAME [ARGUMENT]...: the function NAME with its arguments; what it said is shown if it
# fails, its last line if not.
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

# ignore GROUP NAME WHY
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

# blocks_in_use DIRECTORY: of its filesystem, of 4096 bytes.
blocks_in_use() { stat -f -c '%b %f %S' "$1" | { read -r all free size && echo $(((all - free) * size / 4096)); }; }
