# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The watchdog of a guest, for qemu/vm. A slow machine is no fault, and an emulated guest's clock may
# be wrong. So the watchdog stops a guest when, by this machine's clock, no output has come from it
# for a while: none of the command, the console, or the report.
#
# It uses variables of qemu/vm: run, console, machine_pid, timeout, idle, started.
# shellcheck disable=SC2154,SC2034

# After so many seconds without output a guest of `make test` counts as stuck: longer than any test
# takes on a slow and busy machine.
IDLE=600

# Options of qemu/vm for the guests of `make test` and the like; see PARTS_END in totals.sh, too.
# shellcheck disable=SC2034 # for the callers
GUEST_LIMITS=(--timeout 0 --idle "$IDLE")

# first_report FILE: prints the line, with its number, of the kernel's first report of a fault.
first_report() { grep -v '^#' "$QEMU_DIR/machine/console-patterns" | grep -m1 -n -E -f - "$1"; }

# what_came: prints the sizes of the guest's outputs, which change with each output. Leaves out the
# console of a kernel that has reported a problem, as it may go on reporting for ever.
what_came() {
	local files=("$run/report" "$run/out.log" "$run/err.log")
	first_report "$console" >/dev/null || files+=("$console")
	stat -c %s "${files[@]}" 2>/dev/null | xargs
}

# watch_guest: waits for the end of the machine. If it stops the guest, sets stopped to the reason and
# said_by_then to the size of the console at that time. After `idle` seconds without output it writes
# a line to port 5, whose reader in the guest may kill a stuck test; after another quarter of that
# time it stops the guest.
watch_guest() {
	local looked=$SECONDS since=$SECONDS last='' came told=''
	while kill -0 "$machine_pid" 2>/dev/null; do
		sleep 0.1
		if ((timeout && SECONDS - started >= timeout)); then
			stop_guest "no end after $timeout seconds"
		elif ((idle && SECONDS > looked)); then
			looked=$SECONDS came=$(what_came)
			! ${machine}_has_died || kill_tree "$machine_pid"
			if [ "$came" != "$last" ]; then
				last=$came since=$SECONDS told=
			elif ((SECONDS - since >= idle + (idle + 3) / 4)); then
				stop_guest "nothing came from the guest for $((SECONDS - since)) seconds"
			elif ((SECONDS - since >= idle)) && [ -z "$told" ]; then
				told=1
				echo >&"$STUCK"
			fi
		fi
	done
}

# stop_guest WHY: makes the guest's kernel print its stacks and panic; kills the machine if it does not.
stop_guest() {
	local size last=-1 i
	stopped=$1 said_by_then=$(stat -c %s "$console")
	${machine}_interrupt
	# Printing the stacks takes a second for some hundred lines.
	for ((i = 0; i < 600; i++)); do
		kill -0 "$machine_pid" 2>/dev/null || return 0
		sleep 0.1
		((i % 100 == 99)) || continue
		size=$(stat -c %s "$console")
		((size != last)) || break
		last=$size
	done
	kill "$machine_pid" 2>/dev/null || true
}

# running_tests: prints the tests that have begun by the console (see qemu/shell-tests/report.sh) and not
# ended by the output.
running_tests() {
	awk 'FNR == NR { if ($1 == "test" && $3 == "...") running[$2]--; next }
		match($0, /test [^ ]+ begins/) { running[substr($0, RSTART + 5, RLENGTH - 12)]++ }
		END { for (name in running) if (running[name] > 0) print "  " name }' \
		"$run/out.log" <(head -c "$said_by_then" "$console")
}

# what_it_did: prints the running tests, the last output, and the stacks of a guest that was stopped.
what_it_did() {
	local running file
	running=$(running_tests)
	[ -z "$running" ] || printf -- '---- tests that had begun:\n%s\n' "$running"
	for file in out err; do
		[ ! -s "$run/$file.log" ] || printf -- '---- the last of std%s:\n%s\n' $file "$(tail -n 10 "$run/$file.log")"
	done
	printf -- '---- the last of the console before that:\n%s\n' "$(head -c "$said_by_then" "$console" | tail -n 15)"
	printf -- '---- what ran, from the console:\n%s\n' "$(tail -c "+$((said_by_then + 1))" "$console" | what_ran)"
}

# what_ran: filters a kernel's last messages (stdin): prints the stacks of processors and of user
# tasks, without stale entries (`?`).
what_ran() {
	awk '/^\[[^]]*\]  \? / { next }
		/ task:[^ ]+ .* pid:[0-9]/ { tasks = 1; shown = !/ ppid:2 / && !/ pid:2 / }
		/ Sched Debug Version/ { exit }
		(!tasks || shown) && ++n <= 200'
}
