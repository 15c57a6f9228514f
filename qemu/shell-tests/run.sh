# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Runs the shell tests from this machine, each in its own boot.

# guest_script NAME: prints qemu/shell-tests/NAME with the functions for shell tests before it.
guest_script() { cat "$QEMU_DIR/shell-tests/report.sh" "$QEMU_DIR/shell-tests/$1"; }

# above_run KERNEL SCRIPT FS: tests NFS, or overlayfs and loop devices, above a new instance of FS.
# Prints output like libtest's.
above_run() {
	local kernel=$1 script=$2 fs=$3 options=()
	[ "$fs" = reflinkfs ] || options=(--no-modules --disk 2G)
	"$QEMU_DIR/vm" --kernel "$kernel" "${GUEST_LIMITS[@]}" ${options[@]+"${options[@]}"} -- bash -c '
		fs=$1
		mkdir /mnt/above
		case $fs in
		reflinkfs | tmpfs) mount -t $fs none /mnt/above ;;
		*) mkfs.$fs -q /dev/disk/vm0 && mount -t $fs /dev/disk/vm0 /mnt/above ;;
		esac || exit 1
		exec bash -c "$2" "$3" /mnt/above' - "$fs" "$(guest_script "$script")" "$script"
}

# module_cycles_run KERNEL: loads, uses and unloads the modules again and again, which the harness
# cannot do on its mounted filesystem. Prints output like libtest's.
module_cycles_run() {
	local rounds=20 seconds=15
	[ "$1" = stock ] || rounds=5 seconds=30
	"$QEMU_DIR/vm" --kernel "$1" "${GUEST_LIMITS[@]}" -- \
		bash -c "$(guest_script module-cycles)" module-cycles $rounds $seconds
}
