# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Runs commands in the toolchain root. Mount and process namespace are private, so no mount and no
# process outlives the command.

# unshare blocks TERM while it waits: it must end with the shell that started it.
NAMESPACE=(setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child)
# An ordinary user becomes root of a user namespace (needs /etc/subuid), always with the same ids;
# so mmdebstrap must not create another one.
((EUID == 0)) || NAMESPACE=(unshare --map-root-user --map-auto "${NAMESPACE[@]}")

# in_root [-b SOURCE:TARGET]... COMMAND...: runs the command in the root, which is read-only, with an
# empty /tmp. Each TARGET is one of the mount points of environment/root.sh.
in_root() {
	local binds=()
	while [ "$1" = -b ]; do
		binds+=("$2")
		shift 2
	done
	"${NAMESPACE[@]}" bash "$QEMU_DIR/environment/enter-root" "$(part_dir root)" "${#binds[@]}" ${binds[@]+"${binds[@]}"} \
		${CROSS[@]+"${CROSS[@]}"} "$@"
}

# root_program PATH: sets ROOT_PROGRAM to a command that runs a program of the root on this
# machine, with the root's libraries and without a namespace: QEMU and virtiofsd are the same everywhere.
# shellcheck disable=SC2034 # for the caller
root_program() {
	local root
	root=$(part_dir root)
	ROOT_PROGRAM=("$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" "$root$1")
}
