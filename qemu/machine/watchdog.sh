# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The watchdog of a guest, for qemu/vm. How slow a machine is says nothing about what runs on it, and
# an emulated guest's clock may go wrong: so what decides is this machine's clock, and whether
# anything still comes from the guest. Its command's output, its console and its report count.
#
# All of this uses what qemu/vm has set: run, console, machine_pid, timeout, idle, started.
# shellcheck disable=SC2154,SC2034

# How long nothing may come from a guest of ours before it counts as stuck: longer than any test
# takes on a slow and busy machine.
IDLE=600

# Options of qemu/vm, for the guests of `make test` and their like; see PARTS_END in totals.sh, too.
# shellcheck disable=SC2034 # for the callers
GUEST_LIMITS=(--timeout 0 --idle "$IDLE")

# first_report FILE: the line, with its number, in which the kernel says that something is wrong.
first_report() { grep -v '^#' "$QEMU_DIR/machine/console-patterns" | grep -m1 -n -E -f - "$1"; }

# what_came: how much did, in words that only change. A kernel that has reported a problem may go on
# complaining for ever, so then its console is no progress.
what_came() {
	local files=("$run/report" "$run/out.log" "$run/err.log")
	first_report "$console" >/dev/null || files+=("$console")
	stat -c %s "${files[@]}" 2>/dev/null | xargs
}

# watch_guest: until the machine has ended. Sets stopped to why the guest was stopped, if it was, and
# said_by_then to the size of its console at that time. When nothing has come for `idle` seconds
# whatever in the guest reads its port 5 is told, and may end what is stuck; the guest is stopped
# when nothing has come for a quarter of that time more.
watch_guest() {
	local looked=$SECONDS since=$SECONDS last='' came told=''
	while kill -0 "$machine_pid" 2>/dev/null; do
		sleep 0.1
		if ((timeout && SECONDS - started >= timeout)); then
			stop_guest "no end after $timeout seconds"
		elif ((idle && SECONDS > looked)); then
			looked=$SECONDS came=$(what_came)
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

# stop_guest WHY: it is made to say what it does, and to panic. If it does not even do that it is killed.
stop_guest() {
	local size last=-1 i
	stopped=$1 said_by_then=$(stat -c %s "$console")
	${machine}_interrupt
	# It writes some hundred lines for each second that it takes.
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

# running_tests: those that the console says have begun (see qemu/shell-tests/report.sh) and the output
# does not say have ended.
running_tests() {
	awk 'FNR == NR { if ($1 == "test" && $3 == "...") running[$2]--; next }
		match($0, /test [^ ]+ begins/) { running[substr($0, RSTART + 5, RLENGTH - 12)]++ }
		END { for (name in running) if (running[name] > 0) print "  " name }' \
		"$run/out.log" <(head -c "$said_by_then" "$console")
}

# what_it_did: of a guest that was stopped.
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

# what_ran: of what a kernel says at such an end (stdin), where the processors were, and the tasks that
# are no threads of the kernel's; without what was left on their stacks (`?`).
what_ran() {
	awk '/^\[[^]]*\]  \? / { next }
		/ task:[^ ]+ .* pid:[0-9]/ { tasks = 1; shown = !/ ppid:2 / && !/ pid:2 / }
		/ Sched Debug Version/ { exit }
		(!tasks || shown) && ++n <= 200'
}
