# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The module's own life: loaded, used, refused and removed over and over, in a boot of its own,
# since the harness works on a filesystem that stays mounted.

# module_cycles_run KERNEL: the output is like libtest's.
module_cycles_run() {
	local rounds=20 seconds=15
	[ "$1" = stock ] || rounds=5 seconds=30
	"$QEMU_DIR/vm" --kernel "$1" "${GUEST_LIMITS[@]}" -- \
		bash -c "$(guest_script module-cycles)" module-cycles $rounds $seconds
}
