// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Makes other files share the blocks of the first, if all of their bytes
 * are equal: ioctl FIDEDUPERANGE. The kernel compares. It does not report which
 * of the equal blocks it shared: FIEMAP does, on most filesystems.
 *
 * Exit status: 0 if every file was equal and now shares, 1 if one was not or does
 * not, 2 on an error.
 */
#include "command.h"
#include "copy_fr.h"

#include <linux/fs.h>

/* The kernel takes up to 1 GiB at a time. */
#define STEP (1LL << 30)

static void fail_here(const char *what)
{
	fail_with(2, what, strerror(errno));
}

/* Prints how much of an equal file is shared. Returns whether all of it is. */
static int print_shared(const char *name, int fd, long long size)
{
	switch (copy_fr_shares(fd, 0, size, COPY_FR_DEDUP)) {
	case COPY_FR_CLONED_SOME:
		printf("%s: equal, shares some of %lld bytes\n", name, size);
		return 0;
	case COPY_FR_CLONED_NO:
		printf("%s: equal, shares none of %lld bytes\n", name, size);
		return size == 0;
	case COPY_FR_CLONED_UNKNOWN:
		printf("%s: equal, %lld bytes; the filesystem does not report shared blocks\n", name,
		       size);
		return 1;
	default:
		printf("%s: shares %lld bytes\n", name, size);
		return 1;
	}
}

/* Returns whether the files are equal and share. */
static int dedupe(int from, const char *name, const struct stat *source)
{
	struct {
		struct file_dedupe_range range;
		struct file_dedupe_range_info info;
	} request;
	struct file_dedupe_range_info *info = request.range.info;
	long long done = 0, size = source->st_size;
	struct stat st;
	int to, shares;

	to = open(name, O_RDWR);
	if (to == -1 || fstat(to, &st) == -1)
		fail_here(name);
	if (st.st_dev == source->st_dev && st.st_ino == source->st_ino)
		fail_with(2, name, "is the same file");
	if (st.st_size != size) {
		printf("%s: of another size\n", name);
		close(to);
		return 0;
	}
	while (done < size) {
		memset(&request, 0, sizeof(request));
		request.range.src_offset = done;
		request.range.src_length = size - done < STEP ? size - done : STEP;
		request.range.dest_count = 1;
		info->dest_fd = to;
		info->dest_offset = done;
		if (ioctl(from, FIDEDUPERANGE, &request) == -1)
			fail_here("FIDEDUPERANGE");
		if (info->status == FILE_DEDUPE_RANGE_DIFFERS) {
			printf("%s: differs\n", name);
			close(to);
			return 0;
		}
		if (info->status < 0 || info->bytes_deduped == 0) {
			errno = info->status < 0 ? -info->status : EIO;
			fail_here(name);
		}
		done += info->bytes_deduped;
	}
	shares = print_shared(name, to, size);
	close(to);
	return shares;
}

int main(int argc, char **argv)
{
	int from, equal = 1;
	struct stat st;

	check_arguments(argc, argv, 2, INT_MAX, "fideduperange FILE FILE...");
	from = open(argv[1], O_RDONLY);
	if (from == -1 || fstat(from, &st) == -1)
		fail_here(argv[1]);
	for (int i = 2; i < argc; i++)
		equal &= dedupe(from, argv[i], &st);
	return equal ? 0 : 1;
}
