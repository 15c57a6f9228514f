# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The userspace harness: built with the toolchain root's cargo, run in a guest.

# The manifest of samples/copy_fr, as the toolchain root sees it.
# shellcheck disable=SC2034 # for the callers
CRATE=/src/samples/copy_fr/Cargo.toml
# The manifest of the benchmark.
# shellcheck disable=SC2034
MEASURE=/src/qemu/measure/Cargo.toml

# cargo_in_root ARGUMENT...: runs cargo with its home in the cache and its target in $BUILD/harness.
cargo_in_root() {
	mkdir -p "$CACHE/cargo" "$TOP/$BUILD/harness"
	[ ! -e "$HOME/.cargo/config.toml" ] || cp "$HOME/.cargo/config.toml" "$CACHE/cargo/"
	in_root -b "$CACHE/cargo:/cargo" -b "$TOP:/src" sh -ec '
		cd /src/qemu/harness
		target=$1
		shift
		exec env CARGO_HOME=/cargo CARGO_TARGET_DIR="$target" cargo "$@"' - "/src/$BUILD/harness" "$@"
}

harness_build() {
	cargo_in_root build --release --locked
	# Shares with the guest a directory without anything else.
	mkdir -p "$TOP/$BUILD/guest/programs"
	cp "$TOP/$BUILD/harness/$CARGO_RELEASE/harness" "$TOP/$BUILD/guest/"
	in_root -b "$CACHE/cargo:/cargo" -b "$TOP:/src" sh -ec '
		make -C /src/qemu/harness/compat OUT="/src/$1/guest/programs"
		exec env CARGO_HOME=/cargo make -C /src/samples O="/src/$1/samples" all crate' - "$BUILD"
	cp "$TOP/$BUILD"/samples/{copy_file_range,copy_fr_dedup,copy_fr_once,copy_fr_once-rust,copy_fr_reflink,ficlone,fideduperange} "$TOP/$BUILD/guest/programs/"
}

# Under emulation, programs that run from a share sometimes crash (2 of 9 starts on the debug
# kernel, none from /tmp): virtiofsd writes to the guest's memory, and the emulator does not notice.
copy_harness='cp /share/guest/harness /tmp/ || exit 1'

# harness_command FS ARGUMENT...: prints the command by which a guest runs the harness.
harness_command() {
	local fs=$1
	shift
	printf '%q ' bash -c "$copy_harness"'
		fs=$1 dir=/mnt/$1
		shift
		case $fs in
		reflinkfs) ;;
		tmpfs) mkdir $dir && mount -t tmpfs none $dir ;;
		*) mkdir $dir && mkfs.$fs -q /dev/disk/vm0 && mount -t $fs /dev/disk/vm0 $dir ;;
		esac || exit 1
		exec /tmp/harness --fs $fs --dir $dir "$@"' - "$fs" "$@"
}

# harness_run KERNEL FS ARGUMENT...: runs that in its own guest. Prints libtest's output.
harness_run() {
	local kernel=$1 options=()
	shift
	[ "$1" = reflinkfs ] || options=(--no-modules --disk 4G)
	"$QEMU_DIR/vm" --kernel "$kernel" --share "$TOP/$BUILD/guest" "${GUEST_LIMITS[@]}" ${options[@]+"${options[@]}"} -- \
		bash -c "$(harness_command "$@")"
}

# flags_command FILESYSTEMS ARGUMENT...: prints the command by which a guest with three disks tests the
# flags of copy_file_range(2) on these filesystems, and the module copy_fr. Its output is libtest's,
# several times.
flags_command() {
	printf '%q ' bash -c "$copy_harness"'
		cp -r /share/guest/programs /tmp/ || exit 1
		filesystems=$1 status=0 number=0
		shift
		for fs in $filesystems; do
			dir=/mnt/$fs disk=/dev/disk/vm$number
			mkdir -p $dir
			case $fs in
			reflinkfs) ;;
			tmpfs) mount -t tmpfs none $dir ;;
			*) modprobe -q $fs
				mkfs.$fs -q $disk && mount -t $fs $disk $dir && number=$((number + 1)) ;;
			esac || exit 1
			printf "\n-- the flags on %s\n" $fs
			/tmp/harness --fs $fs --dir $dir --programs /tmp/programs --group flags "$@" || status=$?
		done
		printf "\n-- the module of the flags\n"
		/tmp/harness --group hook --test-threads 1 "$@" || status=$?
		exit $status' - "$@"
}
