# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The machine of qemu/vm that is a process, User-Mode Linux. See machine/emulated.sh.
# shellcheck disable=SC2154,SC2034

process_begin() {
	[ "$tty$icount$cpu$prealloc" = off ] || die 'uml has no --tty, --icount, --cpu and --prealloc; use --kernel stock'
	# With several processors UML unmaps a page of a process on another one only after the call that
	# unmaps it has returned.
	uml=("$kernel_dir/vmlinux" "mem=$memory" ncpus=1 seccomp=on "uml_dir=$run/uml" umid=guest "initrd=$run/initrd"
		con=null ssl=null)
	letters=abcdefghijklmnop
}

process_disk() {
	local mode=
	[ "$2" = rw ] || mode=rc
	uml+=("ubd$((16 - ${#letters}))$mode=$1")
	disk=/dev/ubd${letters:0:1}
	letters=${letters:1}
}

# Each end of a serial line must be a separate pipe, as UML waits for them.
process_ports() {
	local name in fd
	mkfifo "$run/console.pipe" "$run/report.pipe" "$run/stuck"
	cat "$run/console.pipe" >>"$console" & readers+=($!)
	cat "$run/report.pipe" >>"$run/report" & readers+=($!)
	exec {STUCK}<>"$run/stuck"
	uml+=("ssl5=fd:$STUCK")
	process_fds=()
	for name in console.pipe out err report.pipe; do
		# The pipe's reader was started before, so that it does not keep the pipe open itself.
		exec {fd}>"$run/$name"
		mkfifo "$run/$name.in"
		exec {in}<>"$run/$name.in"
		uml+=("ssl$((${#process_fds[@]} / 2))=fd:$in,fd:$fd")
		process_fds+=("$fd" "$in")
	done
}

# hostfs finds the directory by its path.
process_share() { :; }

# UML's memory is a file that it maps executable. It gets a private tmpfs, as /dev/shm of this machine
# may be mounted noexec.
process_start() {
	"${NAMESPACE[@]}" sh -c 'mount -t tmpfs -o size=100% tmpfs /dev/shm && exec "$@"' - \
		env -i PATH="$PATH" HOME="$run" TMPDIR=/dev/shm "${uml[@]}" \
		console=ttyS0 loglevel=5 panic=-1 oops=panic rdinit=/init printk.devkmsg=on \
		sysctl.kernel.hung_task_timeout_secs=240 $1 </dev/null >"$run/machine.err" 2>&1 &
	machine_pid=$!
	# Closes the writing ends, so that the readers see the end of file.
	for fd in "${process_fds[@]}"; do exec {fd}>&-; done
}

# UML has no such interrupt.
process_interrupt() { kill_tree "$machine_pid"; }

# process_has_died: returns whether the kernel has ended: after a panic it may stay, and use a processor.
process_has_died() { grep -q 'Kernel panic - not syncing' "$console"; }
