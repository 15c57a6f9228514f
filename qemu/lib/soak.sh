# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The parts of qemu/soak, each in its own guest; fsx is in fsx.sh.

soak_build() {
	harness_build
	fsx_build
	cp "$TOP/$BUILD/guest/harness" "$TOP/$BUILD/soak/"
}

# in_soak_guest KERNEL SECONDS COMMAND...: runs the command in a guest that may be silent for about SECONDS.
in_soak_guest() {
	local kernel=$1 seconds=$2
	shift 2
	"$QEMU_DIR/vm" --kernel "$kernel" --share "$TOP/$BUILD/soak" \
		--timeout 0 --idle $((seconds * 2 + IDLE)) -- "$@"
}

# stress_run KERNEL SECONDS SEED: runs stress-ng together with the harness's race of everything.
stress_run() {
	in_soak_guest "$1" "$2" bash -c "$(guest_script stress)" stress /mnt/reflinkfs "$2" "$3"
}

# fuzz_run KERNEL SECONDS SEED: compares random operations on two files with a model.
fuzz_run() {
	in_soak_guest "$1" "$2" bash -c 'cp /share/soak/harness /tmp/ &&
		exec /tmp/harness --fs reflinkfs --dir /mnt/reflinkfs --fuzz-seconds "$1" --seed "$2" fuzz' - "$2" "$3"
}

# races_run KERNEL SECONDS SEED: runs the harness's races, which divide the time.
races_run() {
	in_soak_guest "$1" "$2" bash -c 'cp /share/soak/harness /tmp/ || exit 1
		races=$(/tmp/harness --list races:: | grep -c ": test$")
		exec /tmp/harness --fs reflinkfs --dir /mnt/reflinkfs --race-seconds $(($1 / races + 1)) \
			--soak-seconds $(($1 / 4 + 1)) --seed "$2" races::' - "$2" "$3"
}
