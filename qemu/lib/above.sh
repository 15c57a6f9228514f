# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What stands above a filesystem: NFS, overlayfs, loop devices. Shell tests.

# above_run KERNEL SCRIPT FS: the output is like libtest's. The filesystem is an instance of the
# test's own.
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
