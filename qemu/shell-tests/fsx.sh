# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The crate fsx: compares the results of random operations on one file with a model.

FSX_VERSION=0.3.2

# Builds fsx once, with the toolchain root's cargo, into $BUILD.
fsx_build() {
	local root=fsx-$FSX_VERSION
	[ -x "$TOP/$BUILD/$root/bin/fsx" ] ||
		cargo_in_root install --locked --version "=$FSX_VERSION" --root "/src/$BUILD/$root" \
			--target-dir "/src/$BUILD/$root/target" fsx
	mkdir -p "$TOP/$BUILD/soak/fsx"
	cp "$TOP/$BUILD/$root/bin/fsx" "$QEMU_DIR"/shell-tests/fsx-config/*.toml "$TOP/$BUILD/soak/fsx/"
}

# fsx_command OPERATIONS SEED: prints the command by which a guest runs fsx.
fsx_command() { printf '%q ' bash -c "$(guest_script fsx)" fsx /mnt/reflinkfs "$1" "$2"; }

# fsx_run KERNEL OPERATIONS SEED [OPTION]...: runs that in its own guest; options are qemu/vm's. Prints
# output like libtest's.
fsx_run() {
	local kernel=$1 operations=$2 seed=$3
	shift 3
	"$QEMU_DIR/vm" --kernel "$kernel" --share "$TOP/$BUILD/soak" "${GUEST_LIMITS[@]}" "$@" -- \
		bash -c "$(fsx_command "$operations" "$seed")"
}
