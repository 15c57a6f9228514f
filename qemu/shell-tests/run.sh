# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Runs the shell tests from this machine, each in its own boot.

# guest_script NAME: prints qemu/shell-tests/NAME with the functions for shell tests before it.
guest_script() { cat "$QEMU_DIR/shell-tests/report.sh" "$QEMU_DIR/shell-tests/$1"; }

# above_command SCRIPT FS [DISK]: prints the command by which a guest tests NFS, or overlayfs and loop
# devices, above a new instance of FS.
above_command() {
	# shellcheck disable=SC2016 # for the guest
	printf '%q ' bash -c '
		fs=$1 disk=$2
		mkdir -p /mnt/above
		case $fs in
		reflinkfs | tmpfs) mount -t $fs none /mnt/above ;;
		*) mkfs.$fs -q $disk && mount -t $fs $disk /mnt/above ;;
		esac || exit 1
		exec bash -c "$3" "$4" /mnt/above' - "$2" "${3:-}" "$(guest_script "$1")" "$1"
}

# above_run KERNEL SCRIPT FS: runs that in its own guest. Prints output like libtest's.
above_run() {
	local options=()
	[ "$3" = reflinkfs ] || options=(--no-modules --disk 2G)
	"$QEMU_DIR/vm" --kernel "$1" "${GUEST_LIMITS[@]}" ${options[@]+"${options[@]}"} -- \
		bash -c "$(above_command "$2" "$3" /dev/disk/vm0)"
}

# module_cycles_command KERNEL: prints the command by which a guest loads, uses and unloads the modules
# again and again, which the harness cannot do on its mounted filesystem.
module_cycles_command() {
	local rounds=20 seconds=15
	[ "$1" != debug ] || rounds=5 seconds=30
	printf '%q ' bash -c "$(guest_script module-cycles)" module-cycles $rounds $seconds
}

# systemd_run: tests the packages in a guest in which they are installed before systemd starts.
systemd_run() {
	"$QEMU_DIR/vm" --share "$TOP/$BUILD/deb" "${GUEST_LIMITS[@]}" --systemd "$(cat "$QEMU_DIR/shell-tests/before-systemd")" -- \
		bash -c "$(guest_script systemd)" systemd
}

# install_command: prints the command by which a guest tests the packages, which are in /share/deb.
install_command() { printf '%q ' bash -c "$(guest_script install)" install /share/deb; }
