# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# KUnit, on the debug kernel or in UML. Loading the module runs its suites. Their results are read
# from debugfs, one file for each suite, and judged by the kernel's own kunit.py: in a whole console
# it would stop at the first plan, that of a suite built into the kernel.

# kunit_expected: prints "SUITE COUNT" lines, from the sources, so that a missing suite is noticed.
kunit_expected() { in_root -b "$TOP:/src" /src/kunit-tests/suites.py; }

# kunit_out KERNEL: prints the directory of the results.
kunit_out() { printf '%s\n' "$TOP/build/kunit-$1/kunit"; }

# kunit_options KERNEL FILTER: sets KUNIT_OPTIONS to the options of qemu/vm.
kunit_options() {
	local out glob
	out=$(kunit_out "$1")
	rm -rf "$out"
	mkdir -p "$out"
	KUNIT_OPTIONS=(--share "$out" --console "$out/console")
	[ -n "$2" ] || return 0
	# A suite's name selects all of its tests.
	if [[ $(kunit_expected) =~ $2 ]]; then glob="*$2*"; else glob="*.*$2*"; fi
	KUNIT_OPTIONS+=(--append "kunit.filter_glob=$glob")
}

# kunit_command KERNEL: prints the command by which a guest runs the suites and keeps their results.
kunit_command() {
	local parameters=
	# UML makes all repetitions.
	[ "$1" != debug ] || parameters=divisor=8
	# shellcheck disable=SC2016 # for the guest
	printf '%q ' bash -c 'cd /sys/kernel/debug || exit 1
		# For the suite with failing allocations: let those that may wait, and single pages, fail, too.
		for name in failslab/ignore-gfp-wait fail_page_alloc/ignore-gfp-{wait,highmem}; do echo N >$name; done
		for name in fail_page_alloc/{min-order,verbose} failslab/verbose; do echo 0 >$name; done
		insmod /run/vm/modules/reflinkfs_kunit.ko $1 || exit 1
		for suite in /sys/kernel/debug/kunit/*; do cat "$suite/results" >"/share/kunit/${suite##*/}.ktap"; done
		rmmod reflinkfs_kunit' - "$parameters"
}

# kunit_run FILTER [KERNEL]: runs the suites in a guest of KERNEL (default: debug), and judges them.
kunit_run() {
	local kernel=${2:-debug} status=0
	kunit_options "$kernel" "$1"
	"$QEMU_DIR/vm" --kernel "$kernel" "${GUEST_LIMITS[@]}" "${KUNIT_OPTIONS[@]}" -- \
		bash -c "$(kunit_command "$kernel")" || status=$?
	((status == 0)) || printf 'the guest: FAILED (status %d)\n' "$status"
	kunit_judge "$kernel" "$1" && ((status == 0))
}

# kunit_judge KERNEL FILTER: prints kunit.py's lines and a `test result:` line like libtest's.
kunit_judge() {
	local out suite count file summary ran word passed=0 failed=0 skipped=0
	out=$(kunit_out "$1")
	shift
	while read -r suite count; do
		file=$out/$suite.ktap
		if [ ! -s "$file" ]; then
			[ -n "$1" ] && continue
			printf 'suite %s: no results\n' "$suite"
			failed=$((failed + count))
			continue
		fi
		summary=$(in_root -b "$(part_dir source)/linux:/source" -b "$out:/out" \
			python3 /source/tools/testing/kunit/kunit.py parse "/out/$suite.ktap") || true
		printf '%s\n' "$summary" | sed -E 's/^\[[0-9:]+\] //'
		ran=0
		while read -r word; do
			ran=$((ran + ${word#*: }))
			case $word in
			passed:*) passed=$((passed + ${word#*: })) ;;
			skipped:*) skipped=$((skipped + ${word#*: })) ;;
			*) failed=$((failed + ${word#*: })) ;;
			esac
		done < <(printf '%s\n' "$summary" | grep 'Testing complete' | grep -oE '(passed|failed|crashed|skipped|errors): [0-9]+')
		if [ -z "$1" ] && ((ran != count)); then
			printf 'suite %s: %d tests in the source, %d ran\n' "$suite" "$count" "$ran"
			failed=$((failed + 1))
		fi
	done < <(kunit_expected)
	# Shows the messages of failed checks.
	((failed == 0)) || grep -o 'reflinkfs_kunit: .*' "$out/console" || true
	printf 'test result: %s. %d passed; %d failed; %d ignored\n' "$( ((failed)) && echo FAILED || echo ok)" $passed $failed $skipped
	((failed == 0))
}
