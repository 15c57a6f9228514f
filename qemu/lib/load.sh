# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# All of the functions of qemu/, in the order they build on each other.
# shellcheck disable=SC2034
TOP=$(dirname "$QEMU_DIR")
# Not in an ordinary user's path: chroot.
PATH=$PATH:/usr/sbin:/sbin
for file in lib/{say,step} environment/{cache,host,namespace,root,source,stock,debug,uml,guest} \
	machine/{accel,emulated,process,watchdog} lib/{harness,kunit,soak,torture,totals} shell-tests/{run,fsx}; do
	# shellcheck source=/dev/null
	. "$QEMU_DIR/$file.sh"
done
unset file
