# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The shell tests, each in a boot of its own: on this machine.

# guest_script NAME: the words that run qemu/shell-tests/NAME with what shell tests are written with.
guest_script() { cat "$QEMU_DIR/shell-tests/report.sh" "$QEMU_DIR/shell-tests/$1"; }

# above_run KERNEL SCRIPT FS: NFS, or overlayfs and loop devices, above an instance of FS that is the
# test's own. The output is like libtest's.
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

# module_cycles_run KERNEL: the module is loaded, used, refused and removed over and over, which the
# harness cannot do, as it works on a filesystem that stays mounted. The output is like libtest's.
module_cycles_run() {
	local rounds=20 seconds=15
	[ "$1" = stock ] || rounds=5 seconds=30
	"$QEMU_DIR/vm" --kernel "$1" "${GUEST_LIMITS[@]}" -- \
		bash -c "$(guest_script module-cycles)" module-cycles $rounds $seconds
}
