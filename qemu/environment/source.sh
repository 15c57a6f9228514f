# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Debian's kernel as packaged: its source, configuration, symbols, image and modules.

# kernel_version: prints the release to use, such as 7.3.4+deb13-cloud-amd64. The first query of
# the archive records it; `qemu/env --update` queries again.
KERNEL_RECORD=$CACHE/kernel-version

kernel_version() {
	if [ -n "${KERNEL_VERSION:-}" ]; then
		printf '%s\n' "$KERNEL_VERSION"
	else
		cat "$KERNEL_RECORD"
	fi
}

# build_name KERNEL: prints the directory below build/ for what is built for a kernel. Another one than
# the archive's newest has a directory of its own.
build_name() { printf '%s\n' "$1${KERNEL_VERSION:+-$KERNEL_VERSION}"; }

# The package lists are in the cache, not in the root, which never changes.
APT=$CACHE/apt
apt_in_root() {
	mkdir -p "$APT/lists/partial" "$APT/archives/partial"
	in_root -b "$APT:/out" "$@"
}
APT_OPTIONS=(-o Dir::State::lists=/out/lists -o Dir::Cache=/out -o APT::Sandbox::User=root -o Acquire::Retries=3)

archive_newest_kernel() {
	apt_in_root apt-get "${APT_OPTIONS[@]}" update >"$LOGS/apt-update.log" 2>&1 &&
		! grep -qE '^(Err|W: Failed)' "$LOGS/apt-update.log" || return 1
	apt_in_root apt-cache "${APT_OPTIONS[@]}" search --names-only "^linux-headers-7\\..*-cloud-$ARCH\$" |
		sed -E 's/^linux-headers-([^ ]*) .*/\1/' | sort -V | tail -n1
}

# kernel_resolve [update]: fills the record. Queries the archive if there is no record, if the
# recorded kernel is not in the cache (the archive may no longer have it), and on request. If the
# archive does not answer, uses the kernel in the cache.
kernel_resolve() {
	local newest cached
	[ -z "${KERNEL_VERSION:-}" ] || return 0
	if [ "${1:-}" != update ] && [ -s "$KERNEL_RECORD" ] && [ -d "$(part_dir source)" ]; then return 0; fi
	say "asking the archive for the newest 7.x kernel"
	if newest=$(archive_newest_kernel) && [ -n "$newest" ]; then
		kernel_record "$newest"
	elif cached=$(cached_newest_kernel) && [ -n "$cached" ]; then
		kernel_record "$cached"
		note "the package archive did not answer; using the kernel in the cache"
	else
		die "the package archive did not answer and the cache has no kernel; connect and run this again, or name a mirror with MIRROR= (log: $LOGS/apt-update.log)"
	fi
	say "kernel: $(kernel_version)"
}

kernel_record() {
	printf '%s\n' "$1" >"$KERNEL_RECORD.$$"
	mv "$KERNEL_RECORD.$$" "$KERNEL_RECORD"
}

cached_newest_kernel() {
	cat "$CACHE"/source-????????????/release 2>/dev/null | sort -V | tail -n1
}

source_hint() { printf 'is the Debian archive reachable, and does it have this? MIRROR= names another, KERNEL_VERSION= another kernel\n'; }
source_needs() { printf 'root\n'; }
source_mib() { printf '4000\n'; }
source_inputs() { kernel_version; }

# archive_version PACKAGE: prints the archive's version of a package.
archive_version() {
	apt_in_root apt-cache "${APT_OPTIONS[@]}" show --no-all-versions "$1" 2>/dev/null | sed -n 's/^Version: //p' || true
}

# archive_download PACKAGE[=VERSION]...: downloads packages into $APT/debs.
archive_download() {
	apt_in_root sh -c 'cd /out/debs && exec apt-get "$@"' - "${APT_OPTIONS[@]}" download "$@"
}

# kernel_check CONFIG RELEASE: fails if the modules cannot be built for a kernel with the root's compilers.
kernel_check() {
	local symbol wanted ours
	for symbol in RUST QUOTA; do
		grep -qx "CONFIG_$symbol=y" "$1" ||
			die "Debian's kernel $2 is built without CONFIG_$symbol, which reflinkfs needs; name another with KERNEL_VERSION="
	done
	wanted=$(sed -n 's/^CONFIG_RUSTC_VERSION=//p' "$1")
	ours=$(in_root rustc --version | sed -E 's/^rustc ([0-9]+)\.([0-9]+)\.([0-9]+).*/\1 \2 \3/')
	# shellcheck disable=SC2086 # three numbers
	ours=$(printf '%d%03d%02d' $ours)
	[ "$wanted" = "$ours" ] ||
		die "Debian's kernel $2 is built with rustc $wanted (CONFIG_RUSTC_VERSION), Debian $SUITE has $ours, which cannot use its metadata; name another kernel with KERNEL_VERSION="
}

source_make() {
	local release version minor
	release=$(kernel_version)
	minor=$(sed -E 's/^([0-9]+\.[0-9]+).*/\1/' <<<"$release")
	if [ ! -d "$APT/lists" ] || [ -z "$(archive_version "linux-headers-$release")" ]; then
		archive_newest_kernel >/dev/null || true
	fi
	version=$(archive_version "linux-headers-$release")
	[ -n "$version" ] ||
		die "the archive has no linux-headers-$release; what it has: qemu/env --list, another archive: MIRROR="
	source_headers() {
		rm -rf "$APT/debs"
		mkdir "$APT/debs"
		archive_download "linux-headers-$release"
		in_root -b "$APT/debs:/out" -b "$1:/source" sh -ec '
			mkdir /source/stock
			dpkg-deb -x /out/linux-headers-*.deb /source/deb
			cp /source/deb/usr/src/linux-headers-"$1"/.config /source/stock/config
			cp /source/deb/usr/src/linux-headers-"$1"/Module.symvers /source/stock/
			rm -rf /source/deb' - "$release"
	}
	source_download() {
		archive_download {"linux-source-$minor","linux-binary-$release","linux-modules-$release"}="$version"
	}
	source_unpack() {
		in_root -b "$APT/debs:/out" -b "$1:/source" sh -ec '
			for deb in /out/*.deb; do echo "$deb"; dpkg-deb -x "$deb" /source/deb; done
			mkdir /source/linux
			tar -xf /source/deb/usr/src/linux-source-*.tar.xz --strip-components=1 -C /source/linux
			rm /source/deb/usr/src/linux-source-*.tar.xz
			mv /source/deb/usr/lib/modules/*/vmlinuz /source/stock/
			mv /source/deb/usr/lib/modules /source/stock/modules
			rm -rf /source/deb'
		printf '%s\n' "$release" >"$1/release"
		rm -rf "$APT/debs"
	}
	step "$LOGS/source-headers.log" "asking Debian's kernel $release ($version) what it is" source_headers "$1"
	kernel_check "$1/stock/config" "$release"
	step "$LOGS/source-download.log" 'downloading it and its source' source_download
	step "$LOGS/source-unpack.log" 'unpacking both' source_unpack "$1"
}

# kernels_to_test: prints the newest release of each usable version in the flavours cloud and generic, but
# that of kernel_version.
kernels_to_test() {
	kernel_list | sed -nE 's/^(7\.[0-9]+)[^-]*(-cloud)?-'"$ARCH"'$/\1\2 &/p' |
		awk '{ newest[$1] = $2 } END { for (i in newest) print newest[i] }' | sort -V | grep -vxF "$(kernel_version)"
}

# kernel_list: prints the archive's kernels that may be usable, the newest last.
kernel_list() {
	archive_newest_kernel >/dev/null || die "the package archive did not answer (log: $LOGS/apt-update.log)"
	apt_in_root apt-cache "${APT_OPTIONS[@]}" search --names-only "^linux-headers-.*-$ARCH\$" |
		sed -nE 's/^linux-headers-([0-9][^ ]*) .*/\1/p' | sort -V
}
