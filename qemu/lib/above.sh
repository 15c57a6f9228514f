# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What stands above a filesystem: NFS, overlayfs, loop devices. Shell tests, on the stock kernel,
# which has all of these.

# above_run SCRIPT FS: the output is like libtest's. The filesystem is an instance of the test's own.
above_run() {
	local script=$1 fs=$2 options=()
	[ "$fs" = reflinkfs ] || options=(--no-modules --disk 2G)
	"$QEMU_DIR/vm" --append init_on_alloc=0 --timeout 240 ${options[@]+"${options[@]}"} -- bash -c '
		fs=$1
		mkdir /mnt/above
		case $fs in
		reflinkfs | tmpfs) mount -t $fs none /mnt/above ;;
		*) mkfs.$fs -q /dev/disk/vm0 && mount -t $fs /dev/disk/vm0 /mnt/above ;;
		esac || exit 1
		exec bash -c "$2" "$3" /mnt/above' - "$fs" "$(guest_script "$script")" "$script"
}
