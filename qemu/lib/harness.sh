# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The userspace harness: built with the toolchain root's cargo, run in a guest.

# cargo_in_root ARGUMENT...: cargo's home is in the cache, what it builds in build/harness.
cargo_in_root() {
	mkdir -p "$CACHE/cargo" "$TOP/build/harness"
	[ ! -e "$HOME/.cargo/config.toml" ] || cp "$HOME/.cargo/config.toml" "$CACHE/cargo/"
	in_root -b "$CACHE/cargo:/cargo" -b "$TOP:/src" sh -ec '
		cd /src/qemu/harness
		exec env CARGO_HOME=/cargo CARGO_TARGET_DIR=/src/build/harness cargo "$@"' - "$@"
}

harness_build() {
	cargo_in_root build --release --locked
	# The guest sees a directory that holds nothing else.
	mkdir -p "$TOP/build/guest"
	cp "$TOP/build/harness/release/harness" "$TOP/build/guest/"
}

# Emulated, programs that run from a share crash now and then (seen: 2 of 9 starts on the debug
# kernel, none from /tmp): virtiofsd writes to the guest's memory behind the emulator's back.
copy_harness='cp /share/guest/harness /tmp/ || exit 1'

# harness_run KERNEL FS ARGUMENT...: the output is libtest's.
harness_run() {
	local kernel=$1 fs=$2 options=(--share "$TOP/build/guest")
	shift 2
	# Debian's kernel zeroes every page that it allocates, which would hide that ours does not.
	options+=(--append init_on_alloc=0)
	case $fs in
	reflinkfs)
		"$QEMU_DIR/vm" --kernel "$kernel" "${options[@]}" --timeout "$HARNESS_TIMEOUT" -- \
			bash -c "$copy_harness"'; exec /tmp/harness --fs reflinkfs --dir /mnt/reflinkfs "$@"' - "$@"
		;;
	tmpfs | xfs | btrfs)
		"$QEMU_DIR/vm" --kernel "$kernel" "${options[@]}" --timeout "$HARNESS_TIMEOUT" --no-modules --disk 4G -- \
			bash -c 'fs=$1; shift; mkdir /mnt/test
				case $fs in
				tmpfs) mount -t tmpfs none /mnt/test ;;
				*) mkfs.$fs -q /dev/disk/vm0 && mount -t $fs /dev/disk/vm0 /mnt/test ;;
				esac || exit 1
				'"$copy_harness"'; exec /tmp/harness --fs $fs --dir /mnt/test "$@"' - "$fs" "$@"
		;;
	*) die "FS=$fs: reflinkfs, tmpfs, xfs or btrfs" ;;
	esac
}
