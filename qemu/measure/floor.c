// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/bench_floor: the lower bound of costs for a module whose blocks are single
 * pages outside of the page cache, without a filesystem. The benchmark
 * (qemu/bench) compares filesystems with it.
 *
 * BENCH_FLOOR_FILL allocates the device's pages. Mapped shared, they are
 * inserted a page table at a time: that takes the fewest faults, with the only
 * function for modules that maps refcounted pages. Writes go to new pages.
 */
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/ioctl.h>
#include <linux/log2.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

/* Replaces the device's pages by as many new ones as the argument says. */
#define BENCH_FLOOR_FILL	_IO(0xf1, 0)
/* Allocates as many pages again, and copies all. */
#define BENCH_FLOOR_COPY	_IO(0xf1, 1)
/* Frees the copies, and the pages of writes. */
#define BENCH_FLOOR_DROP	_IO(0xf1, 2)
/* Makes each fault copy its page into a new one, and map that. */
#define BENCH_FLOOR_FAULTS_COPY	_IO(0xf1, 3)

struct floor {
	/*
	 * Protects everything below, except from faults: one thread maps, and does not fill while it
	 * has a mapping.
	 */
	struct mutex lock;
	unsigned long n;
	struct page **pages;
	/* An array of n, of which the first `copied` exist. */
	struct page **copies;
	unsigned long copied;
	bool faults_copy;
};

/*
 * Allocates pages as reflinkfs does: up to this order without reclaim, and lower orders if that fails.
 */
#define FLOOR_ORDER	8
#define FLOOR_EASY	((GFP_KERNEL_ACCOUNT & ~__GFP_DIRECT_RECLAIM) | __GFP_NOMEMALLOC | __GFP_NOWARN)

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

/* Allocates up to n contiguous pages. Returns their number. */
static unsigned long floor_alloc(struct page **pages, unsigned long n)
{
	unsigned int order = min(ilog2(n), FLOOR_ORDER);
	struct page *page;
	unsigned long i;

	do {
		page = alloc_pages(order ? FLOOR_EASY : GFP_KERNEL_ACCOUNT, order);
	} while (!page && order--);
	if (!page)
		return 0;
	split_page(page, order);
	for (i = 0; i < 1UL << order; i++)
		pages[i] = page + i;
	return i;
}

/* Returns n new pages, filled from `from` if that is not NULL. */
static struct page **floor_make(unsigned long n, struct page **from)
{
	struct page **pages = kvcalloc(n, sizeof(*pages), GFP_KERNEL);
	unsigned long i = 0, end;

	while (pages && i < n) {
		/* A single page first, so that copies have other offsets in a MiB (see data.rs). */
		end = i + floor_alloc(pages + i, from || i ? n - i : 1);
		if (end == i) {
			floor_free(pages, n);
			return NULL;
		}
		for (; i < end; i++)
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
	floor->copied = 0;
	floor->faults_copy = false;
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
		floor->copied = floor->n;
		return floor->copies ? 0 : -ENOMEM;
	case BENCH_FLOOR_DROP:
		floor_drop(floor);
		return 0;
	case BENCH_FLOOR_FAULTS_COPY:
		if (!floor->pages || floor->copies)
			return -EINVAL;
		floor->copies = kvcalloc(floor->n, sizeof(*floor->copies), GFP_KERNEL);
		floor->faults_copy = floor->copies;
		return floor->copies ? 0 : -ENOMEM;
	default:
		return -ENOTTY;
	}
}

/* Allocates new pages in each call, and copies the bytes to them; the offset does not matter. */
static ssize_t floor_write(struct file *file, const char __user *from, size_t len, loff_t *at)
{
	struct floor *floor = file->private_data;
	size_t done = 0, part;
	unsigned long n;

	guard(mutex)(&floor->lock);
	if (!floor->copies)
		floor->copies = kvcalloc(floor->n, sizeof(*floor->copies), GFP_KERNEL);
	if (!floor->copies)
		return -ENOMEM;
	if (len % PAGE_SIZE || len >> PAGE_SHIFT > floor->n - floor->copied)
		return -EINVAL;
	while (done < len) {
		struct page **pages = floor->copies + floor->copied;

		n = floor_alloc(pages, (len - done) >> PAGE_SHIFT);
		if (!n)
			return -ENOMEM;
		floor->copied += n;
		part = n << PAGE_SHIFT;
		if (copy_from_user(page_address(pages[0]), from + done, part))
			return -EFAULT;
		done += part;
	}
	return done;
}

static vm_fault_t floor_copy_one(struct floor *floor, struct vm_fault *vmf)
{
	struct page **page = &floor->copies[vmf->pgoff];

	if (*page || !floor_alloc(page, 1))
		return VM_FAULT_SIGBUS;
	copy_page(page_address(*page), page_address(floor->pages[vmf->pgoff]));
	return vmf_insert_page_mkwrite(vmf, *page, true);
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
	if (floor->faults_copy)
		return floor_copy_one(floor, vmf);
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
	.write = floor_write,
	.mmap = floor_mmap,
};

static struct miscdevice floor_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "bench_floor",
	.fops = &floor_fops,
	.mode = 0600,
};
module_misc_device(floor_device);

MODULE_DESCRIPTION("Lower bounds of costs, for the benchmark of reflinkfs");
MODULE_AUTHOR("The reflinkfs developers");
MODULE_LICENSE("GPL");
