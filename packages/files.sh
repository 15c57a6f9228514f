# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What is installed, and where: for packages/install and packages/deb.

# put MODE SOURCE TARGET: installs a file below $DESTDIR, or removes it where REMOVE is set.
put() {
	local target=${DESTDIR:-}$3
	if [ -n "${REMOVE:-}" ]; then
		rm -f "$target"
		return
	fi
	[ -e "$2" ] || die "there is no $2; build it first, see packages/install --help"
	install -D -m "$1" "$2" "$target"
}

# put_compressed SOURCE TARGET: the same, compressed without the time and the name.
put_compressed() {
	put 644 "$1" "$2"
	[ -n "${REMOVE:-}" ] || gzip -9nf "${DESTDIR:-}$2"
	[ -z "${REMOVE:-}" ] || rm -f "${DESTDIR:-}$2.gz"
}

# module_dir RELEASE: prints where the modules of a kernel go.
module_dir() { printf '/usr/lib/modules/%s/updates/reflinkfs\n' "$1"; }

# put_modules DIR RELEASE: the modules that were built in DIR, without their debugging information,
# signed if MODULE_SIG_KEY and MODULE_SIG_CERT name a key, and SIGN_FILE the kernel's sign-file.
put_modules() {
	local name target
	for name in reflinkfs copy_fr; do
		target=$(module_dir "$2")/$name.ko
		put 644 "$1/$name.ko" "$target"
		[ -z "${REMOVE:-}" ] || continue
		strip --strip-debug "${DESTDIR:-}$target"
		[ -z "${MODULE_SIG_KEY:-}" ] ||
			"${SIGN_FILE:?names scripts/sign-file of the kernel}" sha256 "$MODULE_SIG_KEY" \
				"${MODULE_SIG_CERT:?names the certificate}" "${DESTDIR:-}$target"
	done
	[ -z "${REMOVE:-}" ] || rmdir "${DESTDIR:-}$(module_dir "$2")" 2>/dev/null || true
}

# put_utils DIR: the programs that were built in DIR, and the manual pages. That of
# copy_file_range(2) is in a section of its own, as the kernel's page has the name:
# `man 2copyfr copy_file_range`.
put_utils() {
	local name
	for name in ficlone fideduperange copy_fr_reflink copy_fr_dedup; do
		put 755 "$1/$name" "/usr/bin/$name"
		[ -n "${REMOVE:-}" ] || strip "${DESTDIR:-}/usr/bin/$name"
	done
	put_compressed "$TOP/man/reflinkfs.5" /usr/share/man/man5/reflinkfs.5
	put_compressed "$TOP/man/copy_file_range.2" /usr/share/man/man2/copy_file_range.2copyfr
}

# put_dev: the header of the library, and its pkg-config file.
put_dev() {
	local pc
	pc=$(mktemp)
	cat >"$pc" <<-PC
		Name: copy_fr
		Description: copy_file_range(2) with flags, and what replaces them on other kernels
		Version: $(version)
		Cflags: -I/usr/include/copy_fr -D_FILE_OFFSET_BITS=64
	PC
	put 644 "$TOP/samples/include/copy_fr.h" /usr/include/copy_fr/copy_fr.h
	put 644 "$TOP/samples/include/linux/copy.h" /usr/include/copy_fr/linux/copy.h
	put 644 "$pc" /usr/share/pkgconfig/copy_fr.pc
	rm "$pc"
	[ -z "${REMOVE:-}" ] || rmdir "${DESTDIR:-}"/usr/include/copy_fr/{linux,} 2>/dev/null || true
}

# version: prints the version, the newest in CHANGELOG.md.
version() {
	local version
	version=$(sed -nE '/^## ([0-9][^ ]*).*/ { s//\1/p; q }' "$TOP/CHANGELOG.md" 2>/dev/null)
	[ -n "$version" ] || die "CHANGELOG.md has no version; get the whole source again"
	printf '%s\n' "$version"
}
