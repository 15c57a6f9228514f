# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The machine of qemu/vm that is a process: User-Mode Linux. See machine/emulated.sh.
# shellcheck disable=SC2154,SC2034

process_begin() {
	[ "$tty$icount$cpu$prealloc" = off ] || die '--tty, --icount, --cpu and --prealloc are not for uml'
	# With more than one a page that is taken away from a process on another processor is not gone
	# before the call returns.
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

# Each end of its lines must be a pipe of its own, as it waits for them.
process_ports() {
	local name in fd
	mkfifo "$run/console.pipe" "$run/report.pipe" "$run/stuck"
	cat "$run/console.pipe" >>"$console" & readers+=($!)
	cat "$run/report.pipe" >>"$run/report" & readers+=($!)
	exec {STUCK}<>"$run/stuck"
	uml+=("ssl5=fd:$STUCK")
	process_fds=()
	for name in console.pipe out err report.pipe; do
		# Its reader is there, and begun before, so that it sees the end.
		exec {fd}>"$run/$name"
		mkfifo "$run/$name.in"
		exec {in}<>"$run/$name.in"
		uml+=("ssl$((${#process_fds[@]} / 2))=fd:$in,fd:$fd")
		process_fds+=("$fd" "$in")
	done
}

# hostfs finds it by its path.
process_share() { :; }

# Its memory is a file, mapped executable: a tmpfs of its own, on this machine it may not be allowed.
process_start() {
	"${NAMESPACE[@]}" sh -c 'mount -t tmpfs -o size=100% tmpfs /dev/shm && exec "$@"' - \
		env -i PATH="$PATH" HOME="$run" TMPDIR=/dev/shm "${uml[@]}" \
		console=ttyS0 loglevel=5 panic=-1 oops=panic rdinit=/init printk.devkmsg=on \
		sysctl.kernel.hung_task_timeout_secs=240 $1 </dev/null >"$run/machine.err" 2>&1 &
	machine_pid=$!
	# So that the readers see an end.
	for fd in "${process_fds[@]}"; do exec {fd}>&-; done
}

# It has no such interrupt.
process_interrupt() { kill_tree "$machine_pid"; }
