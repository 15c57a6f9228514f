# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The parts of qemu/torture, each in its own guest.

# torture_command HARNESS_ARGUMENTS...: prints the command by which a guest runs the harness once with
# each of these strings of arguments.
torture_command() {
	# shellcheck disable=SC2154 # in harness.sh
	printf '%q ' bash -c "$copy_harness"'; cp -r /share/guest/programs /tmp/; status=0
		for arguments; do
			# shellcheck disable=SC2086 # words
			/tmp/harness --fs reflinkfs --dir /mnt/reflinkfs --programs /tmp/programs $arguments || status=$?
		done
		exit $status' - "$@"
}

# torture_guest KERNEL SECONDS HARNESS_ARGUMENTS...: runs that in its own guest.
torture_guest() {
	local kernel=$1 seconds=$2 options=()
	shift 2
	[ -z "${TORTURE_MODULES:-}" ] || options+=(--modules "$TORTURE_MODULES")
	"$QEMU_DIR/vm" --kernel "$kernel" --share "$TOP/$BUILD/guest" --timeout 0 --idle $((seconds * 2 + IDLE)) \
		${options[@]+"${options[@]}"} -- bash -c "$(torture_command "$@")"
}

# torture_bombs_run KERNEL SECONDS SEED: makes every call on files of 2^62 bytes, for about SECONDS.
torture_bombs_run() {
	local tests=340
	torture_guest "$1" "$2" "--seed $3 --bomb-seconds $(awk -v s="$2" -v n=$tests 'BEGIN { print s / n + 0.05 }') bombs::"
}

# torture_faults_run KERNEL SECONDS SEED: lets each fallible step of a call fail in turn. SECONDS does not limit it.
torture_faults_run() {
	local arguments=() words="--seed $3" part
	# The debug kernel can tell what the module does from the rest, and is slow.
	[ "$1" != debug ] || words+=' --points module'
	for part in failures:: sweeps:: costs::; do arguments+=("$words $part"); done
	# UML has no copy_fr.
	[ "$1" = uml ] || arguments+=("$words --group hook --test-threads 1 flag_faults::")
	torture_guest "$1" "$2" "${arguments[@]}"
}

# torture_calls_run KERNEL SECONDS SEED: makes random system calls.
torture_calls_run() {
	torture_guest "$1" "$2" "--group torture --seed $3 --torture-seconds $2 calls_at_random"
}

# torture_memory_run KERNEL SECONDS SEED: makes calls that take memory.
torture_memory_run() {
	torture_guest "$1" "$2" "--group torture --seed $3 --torture-seconds $2 memory_is_bounded"
}

# torture_races_run KERNEL SECONDS SEED: races users of a file's pages in the kernel against everything
# else; about twenty races, two at a time, each for a tenth of the time.
torture_races_run() {
	local part arguments=()
	for part in races:: isolation:: userfaultfd:: registered_buffers:: io_uring:: futex:: madvise:: mmap:: zero_copy::; do
		arguments+=("--seed $3 --race-seconds $(($2 / 15 + 1)) --soak-seconds $(($2 / 5 + 1)) $part")
	done
	torture_guest "$1" "$2" "${arguments[@]}"
}

# told_by_torture LOG: prints the counts of the parts.
told_by_torture() { grep -oh 'torture: .*' "$1" | grep -vE '^torture: [0-9]+ points ' || true; }

# points_swept LOG...: prints how many points the sweeps made fail.
points_swept() { cat "$@" | awk 'match($0, /torture: [0-9]+ points /) { n += substr($0, RSTART + 9) } END { print n + 0 }'; }

# coverage_places MODULE: prints the number of instrumented places of the module.
coverage_places() {
	in_root -b "$TOP:/src" objdump -dr --no-show-raw-insn "$1" | grep -c '__sanitizer_cov_trace_pc' || true
}
