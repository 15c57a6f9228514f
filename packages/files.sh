# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What is installed, and where: for packages/install and packages/deb.
#
# ACTION says what the functions do with the files, which go below $DESTDIR:
#   check    fail if a source is missing
#   install  put them there
#   remove   remove them
# They need a function `tool COMMAND... FILE`, which runs the command on an installed file.

VERSION=$("$TOP/packages/version") || exit 1

# put MODE SOURCE TARGET: does it with one file.
put() {
	case $ACTION in
	check) [ -e "$2" ] || die "there is no $2; build it first: see packages/install --help" ;;
	install) install -D -m "$1" "$2" "$DESTDIR$3" ;;
	remove) rm -f "$DESTDIR$3" ;;
	esac
}

# put_compressed SOURCE TARGET: the same, compressed without the time and the name.
put_compressed() {
	put 644 "$1" "$2"
	case $ACTION in
	install) tool gzip -9nf "$DESTDIR$2" ;;
	remove) rm -f "$DESTDIR$2.gz" ;;
	esac
}

# remove_empty DIRECTORY...: removes these, in this order, where nothing is in them any more.
remove_empty() {
	local directory
	[ "$ACTION" = remove ] || return 0
	for directory; do rmdir "$DESTDIR$directory" 2>/dev/null || true; done
}

# kernel_dir RELEASE: prints where the kernel's modules are. Not everywhere /lib is /usr/lib.
kernel_dir() {
	local lib=/usr/lib
	[ -d "$DESTDIR/usr/lib/modules/$1" ] || [ ! -d "$DESTDIR/lib/modules/$1" ] || lib=/lib
	printf '%s/modules/%s\n' "$lib" "$1"
}

# put_modules DIR RELEASE: the modules that were built in DIR, without their debugging information,
# signed if MODULE_SIG_KEY and MODULE_SIG_CERT name a key, and SIGN_FILE the kernel's sign-file.
put_modules() {
	local name dir target
	dir=$(kernel_dir "$2")
	for name in reflinkfs copy_fr; do
		target=$dir/updates/reflinkfs/$name.ko
		put 644 "$1/$name.ko" "$target"
		[ "$ACTION" = install ] || continue
		tool strip --strip-debug "$DESTDIR$target"
		[ -z "${MODULE_SIG_KEY:-}" ] ||
			"$SIGN_FILE" sha256 "$MODULE_SIG_KEY" "$MODULE_SIG_CERT" "$DESTDIR$target"
	done
	[ "$ACTION" != check ] || [ -z "${MODULE_SIG_KEY:-}" ] ||
		: "${SIGN_FILE:?names scripts/sign-file of the kernel}" "${MODULE_SIG_CERT:?names the certificate}"
	remove_empty "$dir/updates/reflinkfs" "$dir/updates" "$dir"
}

# put_utils DIR: the programs that were built in DIR, and the manual pages. That of
# copy_file_range(2) is in a section of its own, as the kernel's page has the name:
# `man 2copyfr copy_file_range`.
put_utils() {
	local name
	for name in ficlone fideduperange copy_fr_reflink copy_fr_dedup; do
		put 755 "$1/$name" "/usr/bin/$name"
		[ "$ACTION" != install ] || tool strip "$DESTDIR/usr/bin/$name"
		put_compressed "$TOP/man/$name.1" "/usr/share/man/man1/$name.1"
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
		Version: $VERSION
		Cflags: -I/usr/include/copy_fr -D_FILE_OFFSET_BITS=64
	PC
	put 644 "$TOP/samples/include/copy_fr.h" /usr/include/copy_fr/copy_fr.h
	put 644 "$TOP/samples/include/linux/copy.h" /usr/include/copy_fr/linux/copy.h
	put 644 "$pc" /usr/share/pkgconfig/copy_fr.pc
	rm "$pc"
	remove_empty /usr/include/copy_fr/linux /usr/include/copy_fr
}
