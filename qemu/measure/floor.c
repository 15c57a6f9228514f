// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/bench_floor: what a module can do at best, with pages that are there
 * already and no filesystem around them. The benchmark (qemu/bench) puts it
 * beside what filesystems do.
 *
 * The device has pages, made by BENCH_FLOOR_FILL. Mapped shared, they are
 * inserted a page table at a time: the fewest faults, and the one function that
 * modules have to map pages that are counted.
 */
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/ioctl.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

/* The argument is a number of pages. Makes the device's, in the place of what it had. */
#define BENCH_FLOOR_FILL	_IO(0xf1, 0)
/* Allocates as many once more, one by one, and copies all. */
#define BENCH_FLOOR_COPY	_IO(0xf1, 1)
/* Frees the copies. */
#define BENCH_FLOOR_DROP	_IO(0xf1, 2)

struct floor {
	/* Of all that follows. Faults go without: nothing is filled anew while it is mapped. */
	struct mutex lock;
	unsigned long n;
	struct page **pages;
	struct page **copies;
};

static void floor_free(struct page **pages, unsigned long n)
{
	unsigned long i;

	for (i = 0; pages && i < n; i++) {
		if (pages[i])
			put_page(pages[i]);
		cond_resched();
	}
	kvfree(pages);
}

/* Pages, filled from others where there are any. */
static struct page **floor_make(unsigned long n, struct page **from)
{
	struct page **pages = kvcalloc(n, sizeof(*pages), GFP_KERNEL);
	unsigned long i;

	for (i = 0; pages && i < n; i++) {
		pages[i] = alloc_page(GFP_KERNEL_ACCOUNT);
		if (!pages[i]) {
			floor_free(pages, n);
			return NULL;
		}
		if (from)
			copy_page(page_address(pages[i]), page_address(from[i]));
		cond_resched();
	}
	return pages;
}

static void floor_drop(struct floor *floor)
{
	floor_free(floor->copies, floor->n);
	floor->copies = NULL;
}

static void floor_empty(struct floor *floor)
{
	floor_drop(floor);
	floor_free(floor->pages, floor->n);
	floor->pages = NULL;
}

static long floor_ioctl(struct file *file, unsigned int command, unsigned long n)
{
	struct floor *floor = file->private_data;

	guard(mutex)(&floor->lock);
	switch (command) {
	case BENCH_FLOOR_FILL:
		floor_empty(floor);
		floor->n = n;
		floor->pages = floor_make(n, NULL);
		return floor->pages ? 0 : -ENOMEM;
	case BENCH_FLOOR_COPY:
		if (!floor->pages || floor->copies)
			return -EINVAL;
		floor->copies = floor_make(floor->n, floor->pages);
		return floor->copies ? 0 : -ENOMEM;
	case BENCH_FLOOR_DROP:
		floor_drop(floor);
		return 0;
	default:
		return -ENOTTY;
	}
}

static vm_fault_t floor_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct floor *floor = vma->vm_file->private_data;
	unsigned long start = max(vma->vm_start, ALIGN_DOWN(vmf->address, PMD_SIZE));
	unsigned long end = min(vma->vm_end, ALIGN(vmf->address + 1, PMD_SIZE));
	unsigned long first = linear_page_index(vma, start);
	unsigned long left = (end - start) >> PAGE_SHIFT;

	if (!floor->pages || first + left > floor->n)
		return VM_FAULT_SIGBUS;
	return vm_insert_pages(vma, start, floor->pages + first, &left) ? VM_FAULT_SIGBUS :
									  VM_FAULT_NOPAGE;
}

static const struct vm_operations_struct floor_vm = { .fault = floor_fault };

static int floor_mmap(struct file *file, struct vm_area_struct *vma)
{
	vm_flags_set(vma, VM_MIXEDMAP | VM_DONTEXPAND);
	vma->vm_ops = &floor_vm;
	return 0;
}

static int floor_open(struct inode *inode, struct file *file)
{
	struct floor *floor = kzalloc(sizeof(*floor), GFP_KERNEL);

	if (!floor)
		return -ENOMEM;
	mutex_init(&floor->lock);
	file->private_data = floor;
	return 0;
}

static int floor_release(struct inode *inode, struct file *file)
{
	struct floor *floor = file->private_data;

	floor_empty(floor);
	kfree(floor);
	return 0;
}

static const struct file_operations floor_fops = {
	.owner = THIS_MODULE,
	.open = floor_open,
	.release = floor_release,
	.unlocked_ioctl = floor_ioctl,
	.mmap = floor_mmap,
};

static struct miscdevice floor_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "bench_floor",
	.fops = &floor_fops,
	.mode = 0600,
};
module_misc_device(floor_device);

MODULE_DESCRIPTION("What a module can do at best, for reflinkfs's benchmark");
MODULE_AUTHOR("The reflinkfs developers");
MODULE_LICENSE("GPL");
