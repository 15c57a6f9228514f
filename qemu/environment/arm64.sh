# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What is different for ARCH=arm64: packages, and how Debian installs those of another architecture.
# shellcheck disable=SC2034

[ "$ARCH" = arm64 ] || return 0

# The emulator and the cross-compilers run here; busybox and the Rust library are the guest's. The
# kernel's extract-vmlinux knows an arm64 image with the help of file(1).
ROOT_ARCHITECTURES=amd64,arm64
ROOT_PACKAGES=${ROOT_PACKAGES/qemu-system-x86/qemu-system-arm}
ROOT_PACKAGES=${ROOT_PACKAGES/busybox-static/busybox-static:arm64}
ROOT_PACKAGES+='gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf libstd-rust-dev:arm64 file
'
ROOT_COMPILERS=('gcc-[0-9][0-9]-aarch64-linux-gnu' rustc rust-src bindgen)

# The package scripts would need an emulator of single programs (binfmt_misc), so the packages
# are only unpacked. What is then missing: the essential packages; users, which are those of the
# toolchain root; the symbolic links of alternatives; the files of the NFS server. No test needs systemd.
GUEST_PACKAGES=${GUEST_PACKAGES/systemd /}
GUEST_PACKAGES+='
bash dash base-files bsdutils debianutils sed tar gzip mawk hostname libc-bin ncurses-base login passwd netbase'
GUEST_OPTIONS=(--variant=extract --architectures=arm64)
guest_complete() {
	local file
	for file in passwd group shadow nsswitch.conf; do cp "$(part_dir root)/etc/$file" "$1/etc/"; done
	printf 'statd:x:101:65534::/var/lib/nfs:/usr/sbin/nologin\n_rpc:x:102:65534::/run/rpcbind:/usr/sbin/nologin\n' >>"$1/etc/passwd"
	ln -s mawk "$1/usr/bin/awk"
	touch "$1/etc/exports" "$1/var/lib/nfs/"{etab,rmtab}
}
