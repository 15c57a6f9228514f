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

# The package lists are in the cache, not in the root, which never changes.
apt_in_root() {
	mkdir -p "$CACHE/apt/lists/partial" "$CACHE/apt/archives/partial"
	in_root -b "$CACHE/apt:/out" "$@"
}
APT_OPTIONS=(-o Dir::State::lists=/out/lists -o Dir::Cache=/out -o APT::Sandbox::User=root -o Acquire::Retries=3)

archive_newest_kernel() {
	apt_in_root apt-get "${APT_OPTIONS[@]}" update >"$LOGS/apt-update.log" 2>&1 &&
		! grep -qE '^(Err|W: Failed)' "$LOGS/apt-update.log" || return 1
	apt_in_root apt-cache "${APT_OPTIONS[@]}" search --names-only '^linux-headers-7\..*-cloud-amd64$' |
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

source_make() {
	local release minor
	release=$(kernel_version)
	minor=${release%%+*}
	minor=${minor%.*}
	source_download() {
		local debs=("linux-source-$minor" "linux-headers-$release" "linux-binary-$release" "linux-modules-$release")
		rm -rf "$CACHE/apt/debs"
		mkdir "$CACHE/apt/debs"
		apt_in_root sh -c 'cd /out/debs && exec apt-get "$@"' - "${APT_OPTIONS[@]}" download "${debs[@]}"
	}
	source_unpack() {
		in_root -b "$CACHE/apt/debs:/out" -b "$1:/source" sh -ec '
			for deb in /out/*.deb; do echo "$deb"; dpkg-deb -x "$deb" /source/deb; done
			mkdir /source/linux /source/stock
			tar -xf /source/deb/usr/src/linux-source-*.tar.xz --strip-components=1 -C /source/linux
			rm /source/deb/usr/src/linux-source-*.tar.xz
			cp /source/deb/usr/src/linux-headers-*-cloud-amd64/.config /source/stock/config
			cp /source/deb/usr/src/linux-headers-*-cloud-amd64/Module.symvers /source/stock/
			mv /source/deb/usr/lib/modules/*/vmlinuz /source/stock/
			mv /source/deb/usr/lib/modules /source/stock/modules
			rm -rf /source/deb'
		printf '%s\n' "$release" >"$1/release"
		rm -rf "$CACHE/apt/debs"
	}
	if [ ! -d "$CACHE/apt/lists" ]; then archive_newest_kernel >/dev/null || true; fi
	step "$LOGS/source-download.log" "downloading Debian's kernel $release" source_download
	step "$LOGS/source-unpack.log" "unpacking it" source_unpack "$1"
	grep -qx CONFIG_RUST=y "$1/stock/config" ||
		die "Debian's kernel $release is built without CONFIG_RUST; name another with KERNEL_VERSION="
}
