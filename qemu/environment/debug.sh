# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The debug kernel: the stock kernel's source with KUnit, KASAN, lockdep and kmemleak, and
# little else, as every object takes a second to build. KASAN with Rust needs clang, hence LLVM=1.

DEBUG_CONFIGS=("$QEMU_DIR/environment/config/guest.config" "$QEMU_DIR/environment/config/debug.config")
DEBUG_OBJECTS=2330 # lines that the build prints; for progress messages only

debug_hint() { :; }
# make resumes an interrupted build: kbuild trusts no object without its command file.
debug_resumes() { :; }
debug_needs() { printf 'root source\n'; }
debug_mib() { printf '5000\n'; }
debug_inputs() {
	cat "$(part_dir root)/toolchain-versions"
	kernel_version
	grep -hE '^CONFIG_' "${DEBUG_CONFIGS[@]}"
}

# in_debug_tree DIR COMMAND...
in_debug_tree() {
	local dir=$1
	shift
	in_root -b "$(part_dir source)/linux:/source" -b "$dir:/kernel/debug" "$@"
}

debug_configure() {
	grep -hE '^CONFIG_' "${DEBUG_CONFIGS[@]}" >"$1/asked.config"
	in_debug_tree "$1" make -C /source O=/kernel/debug LLVM=1 KCONFIG_ALLCONFIG=/kernel/debug/asked.config allnoconfig
	config_kept "$1/asked.config" "$1/.config"
}

# config_kept ASKED FINAL: fails if an option is missing; Kconfig silently drops those with unmet dependencies.
config_kept() {
	local line bad=0
	while read -r line; do
		grep -qxF -- "$line" "$2" && continue
		printf 'asked for %s, got: %s\n' "$line" "$(grep -E "^(# )?${line%%=*}[= ]" "$2" || echo nothing)"
		bad=1
	done <"$1"
	return $bad
}

debug_make() {
	debug_build() {
		# KBUILD_MODPOST_WARN is not set: an unresolved symbol must fail here.
		in_debug_tree "$1" sh -ec '
			make -C /source O=/kernel/debug LLVM=1 -j"$(nproc)" vmlinux modules
			cd /kernel/debug
			make -s -C /source O=/kernel/debug LLVM=1 kernelrelease >release
			# A module build needs headers, metadata, symbols and tools, none of these.
			find . -path ./scripts -prune -o -path ./tools -prune -o -type f \( -name "*.o" -o -name "*.a" -o -name "*.cmd" \) -exec rm -f {} +
			rm -f vmlinux.unstripped .tmp_vmlinux*'
	}
	step "$LOGS/debug-config.log" "configuring the debug kernel" debug_configure "$1"
	step -n "$DEBUG_OBJECTS" "$LOGS/debug-build.log" "building the debug kernel" debug_build "$1"
}
