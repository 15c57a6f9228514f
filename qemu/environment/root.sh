# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The toolchain root: Debian trixie with exactly the compilers that trixie-backports' kernel is built with.

ROOT_SUITE=trixie
ROOT_PACKAGES='
gcc make flex bison bc cpio kmod libelf-dev libssl-dev libdw-dev pahole perl python3 rsync
xz-utils zstd git ca-certificates
rustc rust-src rustfmt rust-clippy bindgen clang lld llvm cargo libc6-dev
shellcheck mandoc sparse
qemu-system-x86 erofs-utils virtiofsd busybox-static
libaio-dev libacl1-dev libattr1-dev liburing-dev uuid-dev
'
# The directories that in_root can mount on.
ROOT_MOUNT_POINTS='/source /kernel/stock /kernel/debug /kernel/user /src /out /cargo'

root_hint() { printf 'is the Debian archive reachable, and does it have this? MIRROR= names another\n'; }
root_needs() { :; }
root_mib() { printf '3500\n'; }
root_inputs() { printf '%s\n' "$ROOT_SUITE" "$ROOT_PACKAGES" "$ROOT_MOUNT_POINTS"; }

root_make() {
	local mirror
	mirror=$(host_mirror)
	root_bootstrap() {
		"${NAMESPACE[@]}" --mount-proc mmdebstrap --mode=root --variant=minbase \
			--include="$(echo $ROOT_PACKAGES | tr ' ' ,)" \
			--aptopt='Acquire::Retries "3"' \
			"$ROOT_SUITE" "$1" \
			"deb $mirror $ROOT_SUITE main" "deb $mirror $ROOT_SUITE-backports main"
		apt-config dump | grep -i '^Acquire::.*proxy' >"$1/etc/apt/apt.conf.d/90host-proxy" || true
		(cd "$1" && mkdir -p $(printf '.%s ' $ROOT_MOUNT_POINTS))
		: >>"$1/etc/resolv.conf"
		# The versions that decide whether a built kernel can be used with this root.
		dpkg-query --admindir="$1/var/lib/dpkg" -W -f '${Package} ${Version}\n' \
			gcc-14 rustc rust-src bindgen clang-19 lld-19 >"$1/toolchain-versions"
	}
	step -n 700 -m '^(Setting up|Unpacking) ' "$LOGS/root.log" \
		"making the toolchain root (Debian $ROOT_SUITE)" root_bootstrap "$1"
}
