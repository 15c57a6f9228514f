# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Running inside the toolchain root. Mounts happen in a private namespace, so none can outlive
# the command; the process namespace ends with its first process, so neither can a process.

NAMESPACE=(unshare --mount --pid --fork --kill-child)
# An ordinary user is "root" of a user namespace (needs /etc/subuid), always with the same numbers,
# so mmdebstrap must not make its own.
((EUID == 0)) || NAMESPACE+=(--map-root-user --map-auto)

# in_root [-b SOURCE:TARGET]... COMMAND...: the root is read-only, /tmp is fresh; TARGETs are
# among the mount points that parts/root.sh makes.
in_root() {
	local binds=()
	while [ "$1" = -b ]; do
		binds+=("$2")
		shift 2
	done
	"${NAMESPACE[@]}" bash "$QEMU_DIR/environment/enter-root" "$(part_dir root)" "${#binds[@]}" ${binds[@]+"${binds[@]}"} "$@"
}

# root_program PATH: sets ROOT_PROGRAM to a command that runs a program of the root on this
# machine, with the root's libraries and no namespace: the same QEMU and virtiofsd everywhere.
# shellcheck disable=SC2034 # for the caller
root_program() {
	local root
	root=$(part_dir root)
	ROOT_PROGRAM=("$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" "$root$1")
}
