# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The machine of qemu/vm in QEMU, emulated or with KVM. machine/process.sh has the same functions.
# They use variables of qemu/vm.
# shellcheck disable=SC2154,SC2034

emulated_begin() {
	emulator
	qemu=("${QEMU[@]}" -nodefaults -no-reboot -display none -m "$memory" -smp "${icount:-$cpus}")
	accel_options "$kernel_dir/vmlinux" "$cpu" "$icount"
	qemu+=("${ACCEL[@]}" -kernel "$kernel_dir/vmlinux" -initrd "$run/initrd")
	mkfifo "$run/console.in"
	exec {CONSOLE}<>"$run/console.in"
	qemu+=(-chardev "file,id=console,path=$console,input-path=$run/console.in" -serial chardev:console)
	letters=abcdefghijklmnop
	root_program /usr/libexec/virtiofsd
	virtiofsd=("${ROOT_PROGRAM[@]}")
}

# emulated_disk FILE ro|rw: adds a disk, and sets `disk` to its name in the guest.
emulated_disk() {
	local options='cache=unsafe,discard=unmap'
	[ "$2" = rw ] || options='readonly=on,file.locking=off'
	qemu+=(-drive "if=virtio,format=raw,file=$1,$options")
	disk=/dev/vd${letters:0:1}
	letters=${letters:1}
}

# Virtio ports 1 and 2 are pipes for the command's output; port 3 is the agent's report, port 5 the
# watchdog's.
emulated_ports() {
	local name
	qemu+=(-device virtio-serial-pci)
	# Opens the pipes for reading, too, so that no writer waits.
	for name in monitor stuck; do
		mkfifo "$run/$name.in" "$run/$name.out"
		qemu+=(-chardev "pipe,id=$name,path=$run/$name")
	done
	exec {MONITOR}<>"$run/monitor.in" {STUCK}<>"$run/stuck.in"
	qemu+=(-mon "chardev=monitor,mode=readline" -device "virtserialport,nr=5,chardev=stuck")
	qemu+=(-chardev "file,id=report,path=$run/report" -device "virtserialport,nr=3,chardev=report")
	if [ -n "$tty" ]; then
		qemu+=(-chardev "stdio,id=tty,signal=off" -device "virtconsole,nr=4,chardev=tty")
	else
		qemu+=(-chardev "file,id=out,path=$run/out" -device "virtserialport,nr=1,chardev=out")
		qemu+=(-chardev "file,id=err,path=$run/err" -device "virtserialport,nr=2,chardev=err")
	fi
}

# emulated_share DIR NAME
emulated_share() {
	local i
	"${virtiofsd[@]}" --socket-path "$run/$2.sock" --shared-dir "$1" --sandbox none --cache auto \
		--log-level error >"$run/$2.log" 2>&1 &
	children+=($!)
	for ((i = 0; i < 200; i++)); do [ ! -S "$run/$2.sock" ] || break; sleep 0.05; done
	[ -S "$run/$2.sock" ] || { cat "$run/$2.log" >&2; die "virtiofsd did not start for $1"; }
	qemu+=(-chardev "socket,id=fs-$2,path=$run/$2.sock" -device "vhost-user-fs-pci,chardev=fs-$2,tag=share-$2")
}

# emulated_start WORDS: starts QEMU, with WORDS at the end of the kernel's command line.
emulated_start() {
	local backend='memory-backend-ram' stdin=/dev/null words
	[ -z "$share_names" ] || backend='memory-backend-memfd,share=on'
	qemu+=(-object "$backend,id=ram,size=$memory,prealloc=$prealloc" -machine memory-backend=ram)
	[ -z "$tty" ] || stdin=/dev/tty
	# The kernel's watchdogs wait longer than usual, and no_timer_check accepts a late timer ("IO-APIC
	# + timer doesn't work!", at a load of 15): an emulated processor on a busy machine is late, not
	# stuck. unknown_nmi_panic and sysrq_always_enabled are for emulated_interrupt.
	case $ARCH in
	amd64) words='console=ttyS0 unknown_nmi_panic no_timer_check tsc=nowatchdog' ;;
	arm64) words='console=ttyAMA0 sysrq_always_enabled' ;;
	esac
	"${qemu[@]}" -append "$words loglevel=5 panic=-1 oops=panic rdinit=/init printk.devkmsg=on \
panic_sys_info=tasks,all_bt nokaslr mitigations=off rcupdate.rcu_cpu_stall_timeout=120 workqueue.watchdog_thresh=120 \
sysctl.kernel.watchdog_thresh=60 sysctl.kernel.hung_task_timeout_secs=240 $1" <$stdin 2>"$run/machine.err" &
	machine_pid=$!
}

# Sends a non-maskable interrupt: the kernel prints the stacks of all processors and tasks, and panics. The
# machine for arm64 has none; there it is a break and the key for a crash (SysRq) on the console.
emulated_interrupt() {
	if [ "$ARCH" = amd64 ]; then
		echo nmi >&"$MONITOR"
	else
		echo 'chardev-send-break console' >&"$MONITOR"
		sleep 0.5
		printf c >&"$CONSOLE"
	fi
}

# emulated_has_died: returns false: QEMU ends with the kernel.
emulated_has_died() { false; }
