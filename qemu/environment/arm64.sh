# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What is different for ARCH=arm64: packages, and how Debian installs those of another architecture.
# shellcheck disable=SC2034

[ "$ARCH" = arm64 ] || return 0
[ -z "${SUITE:-}" ] || die 'ARCH=arm64 has no SUITE=, only trixie with the kernels of backports'

# The emulator and the cross-compilers run here; busybox and the Rust library are the guest's. The
# kernel's extract-vmlinux knows an arm64 image with the help of file(1).
ROOT_PACKAGES=${ROOT_PACKAGES/qemu-system-x86/qemu-system-arm}
ROOT_PACKAGES=${ROOT_PACKAGES/busybox-static/busybox-static:arm64}
ROOT_PACKAGES+='gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf libstd-rust-dev:arm64 file
'

root_make() {
	local mirror
	mirror=$(host_mirror)
	root_bootstrap() {
		"${NAMESPACE[@]}" --mount-proc mmdebstrap --mode=root --variant=minbase --architectures=amd64,arm64 \
			--include="$(echo $ROOT_PACKAGES | tr ' ' ,)" \
			--aptopt='Acquire::Retries "3"' \
			"$ROOT_SUITE" "$1" \
			"deb $mirror $ROOT_SUITE main" "deb $mirror $ROOT_SUITE-backports main"
		apt-config dump | grep -i '^Acquire::.*proxy' >"$1/etc/apt/apt.conf.d/90host-proxy" || true
		(cd "$1" && mkdir -p $(printf '.%s ' $ROOT_MOUNT_POINTS))
		: >>"$1/etc/resolv.conf"
		dpkg-query --admindir="$1/var/lib/dpkg" -W -f '${Package} ${Version}\n' \
			gcc-14-aarch64-linux-gnu rustc rust-src bindgen >"$1/toolchain-versions"
	}
	step -n 900 -m '^(Setting up|Unpacking) ' "$LOGS/root.log" \
		"making the toolchain root for arm64 (Debian $ROOT_SUITE)" root_bootstrap "$1"
}

# The package scripts would need an emulator of single programs (binfmt_misc), so the packages
# are only unpacked. What is then missing: the essential packages; users, which are those of the
# toolchain root; the symbolic links of alternatives; the files of the NFS server. No test needs systemd.
GUEST_PACKAGES=${GUEST_PACKAGES/systemd /}
GUEST_PACKAGES+='
bash dash base-files bsdutils debianutils sed tar gzip mawk hostname libc-bin ncurses-base login passwd netbase'

guest_make() {
	local mirror
	mirror=$(host_mirror)
	guest_bootstrap() {
		local file
		"${NAMESPACE[@]}" --mount-proc mmdebstrap --mode=root --variant=extract --architectures=arm64 \
			--include="$(echo $GUEST_PACKAGES | tr ' ' ,)" \
			--aptopt='Acquire::Retries "3"' \
			--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
			--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/i18n/*' \
			--dpkgopt='path-exclude=/usr/share/info/*' \
			"$ROOT_SUITE" "$1/tree" "deb $mirror $ROOT_SUITE main"
		for file in passwd group shadow nsswitch.conf; do
			cp "$(part_dir root)/etc/$file" "$1/tree/etc/"
		done
		printf 'statd:x:101:65534::/var/lib/nfs:/usr/sbin/nologin\n_rpc:x:102:65534::/run/rpcbind:/usr/sbin/nologin\n' >>"$1/tree/etc/passwd"
		ln -s mawk "$1/tree/usr/bin/awk"
		touch "$1/tree/etc/exports" "$1/tree/var/lib/nfs/"{etab,rmtab}
		mkdir -p "$1/tree/share" "$1/tree/mnt/reflinkfs" "$1/tree/lib/modules"
		printf 'guest\n' >"$1/tree/etc/hostname"
		printf '127.0.0.1 localhost guest\n' >"$1/tree/etc/hosts"
		in_root -b "$1:/out" mkfs.erofs --quiet /out/guest.erofs /out/tree
		remove_tree "$1/tree"
	}
	step "$LOGS/guest.log" "making the guest's userland for arm64" guest_bootstrap "$1"
}
