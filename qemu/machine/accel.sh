# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The emulator, from the toolchain root: Debian 12's QEMU 7.2 loses a race when a kernel patches
# its own code on one processor while the other runs it ("Oops: int3", two boots in seven);
# that was mended in 8.1 but for something that is left, see lost_race in qemu/vm.
# And KVM where it truly works, TCG elsewhere. /dev/kvm may exist and still not run a kernel
# (nested virtualisation), so the question is asked by starting one.

emulator() {
	local root
	root=$(part_dir root)
	root_program /usr/bin/qemu-system-x86_64
	QEMU=("${ROOT_PROGRAM[@]}" -L "$root/usr/share/qemu" -L "$root/usr/share/seabios")
}

# kvm_works VMLINUX: the answer holds until the machine boots again.
kvm_works() {
	local record log
	[ -w /dev/kvm ] || return 1
	record=$CACHE/kvm-$EUID-$(cat /proc/sys/kernel/random/boot_id)
	if [ ! -e "$record" ]; then
		say "trying KVM"
		log=$(mktemp)
		# Without a root to mount, a kernel that runs ends in a panic that says so.
		(timeout -k 1 20 "${QEMU[@]}" -accel kvm -cpu host -m 512 -nodefaults -no-reboot -display none \
			-kernel "$1" -append 'console=ttyS0 panic=-1' -serial "file:$log" </dev/null || true) >/dev/null 2>&1
		rm -f "$CACHE/kvm-$EUID"-*
		if grep -q 'Kernel panic' "$log"; then echo yes >"$record"; else echo no >"$record"; fi
		rm -f "$log"
		[ "$(cat "$record")" = yes ] || note "/dev/kvm is there but runs no guest; using emulation (TCG)"
	fi
	[ "$(cat "$record")" = yes ]
}

# What TCG emulates. The 57-bit address space only makes its page walks longer. And its string
# instructions go byte by byte, where a processor's take a cache line at a time: without them (erms,
# fsrm, fsrs) the kernel copies and clears by the word.
TCG_BY_WORD=max,la57=off,-erms,-fsrm,-fsrs
# shellcheck disable=SC2034 # for qemu/bench
TCG_BY_BYTE=max,la57=off

# shellcheck disable=SC2034 # for the caller
# accel_options VMLINUX CPU ICOUNT: sets ACCEL; CPU is what to emulate where there is no KVM. With
# ICOUNT to one emulated processor, on which each instruction takes a nanosecond.
accel_options() {
	local tcg='tcg,tb-size=512' cpu=${2:-$TCG_BY_WORD}
	if [ -n "$3" ]; then
		ACCEL=(-accel "$tcg,thread=single" -icount 'shift=0,sleep=off' -cpu "$cpu")
	elif kvm_works "$1"; then
		ACCEL=(-accel kvm -cpu host)
	else
		ACCEL=(-accel "$tcg,thread=multi" -cpu "$cpu")
	fi
}
