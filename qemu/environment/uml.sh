# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# User-Mode Linux from the same source: the kernel runs as a process, without emulation, for tests
# that need neither a second processor nor KASAN.

UML_CONFIG=$QEMU_DIR/environment/config/uml.config
# The linker script puts __bss_start before the alignment of .bss, the largest of which is that of a stack:
# kmemleak, which reads from there on, would meet a hole.
UML_BSS_ALIGN=0x4000
UML_OBJECTS=1300 # lines that the build prints; for progress messages only

uml_hint() { :; }
# make resumes an interrupted build: kbuild trusts no object without its command file.
uml_resumes() { :; }
uml_needs() { printf 'root source\n'; }
uml_mib() { printf '2500\n'; }
uml_inputs() {
	cat "$(part_dir root)/toolchain-versions"
	kernel_version
	grep -hE '^CONFIG_' "$UML_CONFIG"
	printf '%s\n' "$UML_BSS_ALIGN"
}

# in_uml_tree DIR COMMAND...
in_uml_tree() {
	local dir=$1
	shift
	in_root -b "$(part_dir source)/linux:/source" -b "$dir:/kernel/user" "$@"
}

uml_configure() {
	grep -hE '^CONFIG_' "$UML_CONFIG" >"$1/asked.config"
	in_uml_tree "$1" make -C /source O=/kernel/user ARCH=um KCONFIG_ALLCONFIG=/kernel/user/asked.config allnoconfig
	config_kept "$1/asked.config" "$1/.config"
}

uml_make() {
	uml_build() {
		in_uml_tree "$1" sh -ec '
			make -C /source O=/kernel/user ARCH=um -j"$(nproc)" arch/um/kernel/vmlinux.lds
			sed -i "s/^ *__bss_start = \.;/. = ALIGN($1);\n&/" /kernel/user/arch/um/kernel/vmlinux.lds
			make -C /source O=/kernel/user ARCH=um -j"$(nproc)" vmlinux modules
			cd /kernel/user
			make -s -C /source O=/kernel/user ARCH=um kernelrelease >release
			# A module build needs headers, metadata, symbols and tools, none of these.
			find . -path ./scripts -prune -o -path ./tools -prune -o -type f \( -name "*.o" -o -name "*.a" -o -name "*.cmd" \) -exec rm -f {} +
			rm -f vmlinux.unstripped .tmp_vmlinux*' - "$UML_BSS_ALIGN"
	}
	step "$LOGS/uml-config.log" "configuring the kernel that is a process (UML)" uml_configure "$1"
	step -n "$UML_OBJECTS" "$LOGS/uml-build.log" "building it" uml_build "$1"
}
