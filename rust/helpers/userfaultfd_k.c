// SPDX-License-Identifier: GPL-2.0

#include <linux/userfaultfd_k.h>

__rust_helper bool rust_helper_uffd_disable_fault_around(struct vm_area_struct *vma)
{
	return uffd_disable_fault_around(vma);
}
