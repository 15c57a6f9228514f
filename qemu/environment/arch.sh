# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The architecture of the guests, ARCH: amd64, or arm64, which the toolchain root cross-compiles for
# and emulates. Each has a cache of its own and a folder for what is built.
# shellcheck disable=SC2034 # for the other files

: "${ARCH:=amd64}"
# KERNELS: those that exist, the one whose tests take longest first. BUILD: the folder, below the checkout. CROSS: what goes before a command in
# the root, for the kernel's build system and cargo. CARGO_RELEASE: where cargo puts programs, below its
# target. STRIP: the program for its files.
case $ARCH in
amd64)
	KERNELS=(debug uml stock)
	BUILD=build
	CROSS=()
	CARGO_RELEASE=release
	STRIP='strip'
	;;
arm64)
	KERNELS=(stock)
	BUILD=build/arm64
	CROSS=(env ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- CROSS_COMPILE_COMPAT=arm-linux-gnueabihf-
		CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu
		CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc)
	CARGO_RELEASE=aarch64-unknown-linux-gnu/release
	STRIP='aarch64-linux-gnu-strip'
	;;
*) die "ARCH=$ARCH: amd64 or arm64" ;;
esac
