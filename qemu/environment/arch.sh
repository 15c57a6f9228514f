# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The architecture of the guests, ARCH: amd64, or arm64, which the toolchain root cross-compiles for
# and emulates; and the suite of Debian, SUITE, whose kernels have Rust. All but amd64 and trixie have a
# cache of their own and a folder for what is built, called VARIANT.
# shellcheck disable=SC2034 # for the other files

: "${ARCH:=amd64}" "${SUITE:=trixie}"
# KERNELS: those that exist, the one whose tests take longest first. CROSS: what goes before a command in
# the root, for the kernel's build system and cargo. CARGO_RELEASE: where cargo puts programs, below its
# target. STRIP: the program for its files.
case $ARCH in
amd64)
	KERNELS=(debug uml stock)
	CROSS=()
	CARGO_RELEASE=release
	STRIP='strip'
	;;
arm64)
	KERNELS=(stock)
	CROSS=(env ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- CROSS_COMPILE_COMPAT=arm-linux-gnueabihf-
		CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu
		CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc)
	CARGO_RELEASE=aarch64-unknown-linux-gnu/release
	STRIP='aarch64-linux-gnu-strip'
	;;
*) die "ARCH=$ARCH: amd64 or arm64" ;;
esac
[[ $SUITE =~ ^(trixie|forky|sid|experimental)$ ]] || die "SUITE=$SUITE: trixie (the default), forky, sid or experimental"
[ $ARCH = amd64 ] || [ $SUITE = trixie ] ||
	die "ARCH=$ARCH has no SUITE=, only trixie with the kernels of backports"

VARIANT=
[ $ARCH = amd64 ] || VARIANT=/$ARCH
[ $SUITE = trixie ] || VARIANT=/$SUITE
# The folder, below the checkout.
BUILD=build$VARIANT
