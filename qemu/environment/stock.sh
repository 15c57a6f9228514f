# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The stock kernel: Debian's own image and modules, and a tree prepared from the same source
# and configuration, with the Rust metadata that Debian's headers package lacks.

STOCK_OBJECTS=210 # lines that the preparation prints; for progress messages only

stock_hint() { :; }
stock_needs() { printf 'root source\n'; }
stock_mib() { printf '1500\n'; }
stock_inputs() {
	cat "$(part_dir root)/toolchain-versions"
	kernel_version
}

stock_make() {
	local source
	source=$(part_dir source)
	stock_prepare() {
		cp "$source/stock/config" "$1/.config"
		cp "$source/stock/Module.symvers" "$1/"
		cp "$source/release" "$1/"
		# Extracts Debian's image: QEMU starts it at once, while unpacking takes seconds under TCG.
		in_root -b "$source:/source" -b "$1:/out" sh -c \
			'sh /source/linux/scripts/extract-vmlinux /source/stock/vmlinuz >/out/vmlinux'
		# KERNELRELEASE must be Debian's, or the modules' version magic does not match.
		in_root -b "$source/linux:/source" -b "$1:/kernel/stock" sh -ec '
			make -C /source O=/kernel/stock olddefconfig
			make -C /source O=/kernel/stock -j"$(nproc)" KERNELRELEASE="$(cat /kernel/stock/release)" prepare modules_prepare'
	}
	# Packs all modules into one image, for the guest's /lib/modules.
	stock_modules() {
		in_root -b "$source/stock:/source" -b "$1:/out" sh -ec '
			mkdir -p /tmp/m/lib
			cp -a /source/modules /tmp/m/lib/
			find /tmp/m -name "*.ko.xz" -print0 | xargs -0 -r -P "$(nproc)" -n 50 xz -d
			depmod -b /tmp/m "$(cat /out/release)"
			rm -f /tmp/m/lib/modules/*/build /tmp/m/lib/modules/*/source
			mkfs.erofs --quiet /out/modules.erofs /tmp/m/lib/modules
			# What the initramfs needs to reach its disks, in the order of loading.
			mkdir /out/boot-modules
			n=10
			for module in virtio_blk erofs overlay; do
				modprobe -d /tmp/m -S "$(cat /out/release)" --show-depends "$module" | while read -r _ path _; do
					set -- /out/boot-modules/*-"${path##*/}"
					[ -e "$1" ] || cp "$path" "/out/boot-modules/$n-${path##*/}"
					n=$((n + 1))
				done
				n=$((n + 30))
			done'
	}
	step -n "$STOCK_OBJECTS" "$LOGS/stock.log" "preparing the stock kernel's tree for Rust modules" stock_prepare "$1"
	step "$LOGS/stock-modules.log" "packing the stock kernel's modules" stock_modules "$1"
}
