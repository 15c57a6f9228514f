# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The toolchain root: Debian with exactly the compilers that the suite's kernels are built with; those of
# trixie are the backports'.

# What Debian packages are for: first of the programs that run here.
ROOT_ARCHITECTURES=amd64
ROOT_PACKAGES='
gcc make flex bison bc cpio kmod libelf-dev libssl-dev libdw-dev pahole perl python3 rsync
xz-utils zstd git ca-certificates
rustc rust-src rustfmt rust-clippy bindgen clang lld llvm cargo libc6-dev
shellcheck mandoc sparse
qemu-system-x86 erofs-utils virtiofsd busybox-static
libaio-dev libacl1-dev libattr1-dev liburing-dev uuid-dev
'
# The packages, as patterns, whose versions decide whether a built kernel can be used with this root.
ROOT_COMPILERS=('gcc-[0-9][0-9]' rustc rust-src bindgen 'clang-[0-9][0-9]' 'lld-[0-9][0-9]')
# The directories that in_root can mount on.
ROOT_MOUNT_POINTS='/source /kernel/stock /kernel/debug /kernel/user /src /out /cargo'

root_hint() { printf 'is the Debian archive reachable, and does it have this? MIRROR= names another\n'; }
root_needs() { :; }
root_mib() { printf '3500\n'; }
root_inputs() { printf '%s\n' "$SUITE" "$ROOT_ARCHITECTURES" "$ROOT_PACKAGES" "${ROOT_COMPILERS[@]}" "$ROOT_MOUNT_POINTS"; }

# suite_base: prints the suite that has the userland.
suite_base() { printf '%s\n' "${SUITE/experimental/sid}"; }

# suite_sources MIRROR: prints the lines of apt's sources.
suite_sources() {
	printf 'deb %s %s main\n' "$1" "$(suite_base)"
	case $SUITE in
	trixie) printf 'deb %s trixie-backports main\n' "$1" ;;
	experimental) printf 'deb %s experimental main\n' "$1" ;;
	esac
}

root_make() {
	local mirror sources options
	mirror=$(host_mirror)
	mapfile -t sources < <(suite_sources "$mirror")
	mapfile -t options < <(host_apt_options)
	root_bootstrap() {
		"${NAMESPACE[@]}" --mount-proc mmdebstrap --mode=root --variant=minbase --architectures="$ROOT_ARCHITECTURES" \
			--include="$(echo $ROOT_PACKAGES | tr ' ' ,)" \
			"${options[@]}" "$(suite_base)" "$1" "${sources[@]}"
		(cd "$1" && mkdir -p $(printf '.%s ' $ROOT_MOUNT_POINTS))
		: >>"$1/etc/resolv.conf"
		dpkg-query --admindir="$1/var/lib/dpkg" -W -f '${Package} ${Version}\n' \
			"${ROOT_COMPILERS[@]}" >"$1/toolchain-versions"
	}
	step -n 700 -m '^(Setting up|Unpacking) ' "$LOGS/root.log" \
		"making the toolchain root (Debian $SUITE)" root_bootstrap "$1"
}
