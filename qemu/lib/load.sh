# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# All of the environment's functions, in the order they build on each other.
# shellcheck disable=SC2034
TOP=$(dirname "$QEMU_DIR")
# Not in an ordinary user's path: chroot.
PATH=$PATH:/usr/sbin:/sbin
for file in say step cache host namespace accel machine-emulated machine-process watchdog harness kunit module-cycles fsx soak torture above totals; do
	# shellcheck source=/dev/null
	. "$QEMU_DIR/lib/$file.sh"
done
for file in root source stock debug uml guest; do
	# shellcheck source=/dev/null
	[ ! -e "$QEMU_DIR/parts/$file.sh" ] || . "$QEMU_DIR/parts/$file.sh"
done
unset file
