# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The guest's userland: Debian in a read-only image. Uncompressed erofs is the cheapest
# to read under TCG, and all guests share one file and its page cache.

GUEST_PACKAGES='
coreutils util-linux mount attr acl xfsprogs btrfs-progs e2fsprogs fio strace
nfs-kernel-server nfs-common quota stress-ng
systemd python3-minimal libpython3-stdlib libgcc-s1 libstdc++6 procps kmod psmisc file diffutils findutils grep
libacl1 libattr1 liburing2 libaio1t64
'

guest_hint() { printf 'is the Debian archive reachable, and does it have this? MIRROR= names another\n'; }
guest_needs() { printf 'root\n'; }
guest_mib() { printf '2000\n'; }
guest_inputs() {
	printf '%s\n' "$SUITE" "$GUEST_PACKAGES" "${GUEST_OPTIONS[@]}"
	declare -f guest_complete
}
# How mmdebstrap installs them.
GUEST_OPTIONS=(--variant=minbase)
# guest_complete TREE: adds what the packages lack.
guest_complete() { :; }

guest_make() {
	local mirror options
	mirror=$(host_mirror)
	mapfile -t options < <(host_apt_options)
	guest_bootstrap() {
		"${NAMESPACE[@]}" --mount-proc mmdebstrap --mode=root "${GUEST_OPTIONS[@]}" \
			--include="$(echo $GUEST_PACKAGES | tr ' ' ,)" \
			"${options[@]}" \
			--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
			--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/i18n/*' \
			--dpkgopt='path-exclude=/usr/share/info/*' \
			"$(suite_base)" "$1/tree" "deb $mirror $(suite_base) main"
		# The guest's first process fills these directories on every boot.
		mkdir -p "$1/tree/share" "$1/tree/mnt/reflinkfs" "$1/tree/lib/modules"
		printf 'guest\n' >"$1/tree/etc/hostname"
		printf '127.0.0.1 localhost guest\n' >"$1/tree/etc/hosts"
		rm -f "$1/tree/etc/resolv.conf"
		guest_complete "$1/tree"
		in_root -b "$1:/out" mkfs.erofs --quiet /out/guest.erofs /out/tree
		remove_tree "$1/tree"
	}
	step "$LOGS/guest.log" "making the guest's userland" guest_bootstrap "$1"
}
