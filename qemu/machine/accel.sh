# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The emulator, from the toolchain root. Debian 12's QEMU 7.2 loses a race when a kernel patches
# its own code on one processor while the other runs it ("Oops: int3", two boots in seven);
# 8.1 fixed most of that, see lost_race in qemu/vm.
# It uses KVM where KVM works, TCG elsewhere. /dev/kvm may exist and still run no kernel
# (nested virtualisation), so kvm_works starts one.

emulator() {
	local root
	root=$(part_dir root)
	case $ARCH in
	amd64) root_program /usr/bin/qemu-system-x86_64 ;;
	arm64) root_program /usr/bin/qemu-system-aarch64 ;;
	esac
	QEMU=("${ROOT_PROGRAM[@]}" -L "$root/usr/share/qemu" -L "$root/usr/share/seabios")
	[ "$ARCH" = amd64 ] || QEMU+=(-machine virt)
}

# kvm_works VMLINUX: returns whether KVM runs this kernel. Caches the answer until this machine reboots.
kvm_works() {
	local record log
	# The toolchain root is for x86-64.
	[ "$ARCH" = amd64 ] && [ -w /dev/kvm ] || return 1
	record=$CACHE/kvm-$EUID-$(cat /proc/sys/kernel/random/boot_id)
	if [ ! -e "$record" ]; then
		say "trying KVM"
		log=$(mktemp)
		# A kernel that runs panics, as it has no root to mount.
		(timeout -k 1 20 "${QEMU[@]}" -accel kvm -cpu host -m 512 -nodefaults -no-reboot -display none \
			-kernel "$1" -append 'console=ttyS0 panic=-1' -serial "file:$log" </dev/null || true) >/dev/null 2>&1
		rm -f "$CACHE/kvm-$EUID"-*
		if grep -q 'Kernel panic' "$log"; then echo yes >"$record"; else echo no >"$record"; fi
		rm -f "$log"
		[ "$(cat "$record")" = yes ] || note "/dev/kvm is there but runs no guest; using emulation (TCG)"
	fi
	[ "$(cat "$record")" = yes ]
}

# The processor that TCG emulates. A 57-bit address space would only make page walks longer. TCG
# emulates string instructions byte by byte, while a processor moves a cache line at a time: without
# them (erms, fsrm, fsrs) the kernel copies and clears by the word.
TCG_BY_WORD=max,la57=off,-erms,-fsrm,-fsrs
# shellcheck disable=SC2034 # for qemu/bench
TCG_BY_BYTE=max,la57=off
# arm64: authenticates pointers with QEMU's own hash, as the architecture's takes a large part of the time; has no
# large vector registers, which each switch of tasks would save; and no 52-bit address space.
[ "$ARCH" = amd64 ] || TCG_BY_WORD=max,pauth-impdef=on,sve=off,sme=off,lpa2=off

# shellcheck disable=SC2034 # for the caller
# accel_options VMLINUX CPU ICOUNT: sets ACCEL. CPU is the model to emulate without KVM. With ICOUNT
# there is one emulated processor, on which each instruction takes a nanosecond.
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
