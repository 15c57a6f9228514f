// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Makes other files share the blocks of the first, where all of their bytes
 * are equal: ioctl FIDEDUPERANGE. The kernel compares.
 *
 * Exit status: 0 if every file was equal and now shares, 1 if one was not, 2 on
 * an error.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* The kernel takes up to 1 GiB at a time. */
#define STEP (1LL << 30)

static void fail(const char *what)
{
	perror(what);
	exit(2);
}

/* Returns whether the files are equal. */
static int dedupe(int from, const char *name, long long size)
{
	struct {
		struct file_dedupe_range range;
		struct file_dedupe_range_info info;
	} request;
	struct file_dedupe_range_info *info = request.range.info;
	struct stat st;
	long long done = 0;
	int to;

	to = open(name, O_RDWR);
	if (to == -1 || fstat(to, &st) == -1)
		fail(name);
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
			fail("FIDEDUPERANGE");
		if (info->status == FILE_DEDUPE_RANGE_DIFFERS) {
			printf("%s: differs\n", name);
			close(to);
			return 0;
		}
		if (info->status < 0 || info->bytes_deduped == 0) {
			errno = info->status < 0 ? -info->status : EIO;
			fail(name);
		}
		done += info->bytes_deduped;
	}
	printf("%s: shares %lld bytes\n", name, done);
	close(to);
	return 1;
}

int main(int argc, char **argv)
{
	struct stat st;
	int from, equal = 1;

	if (argc < 3) {
		fprintf(stderr, "Usage: %s <file> <file>...\n", argv[0]);
		exit(2);
	}

	from = open(argv[1], O_RDONLY);
	if (from == -1 || fstat(from, &st) == -1)
		fail(argv[1]);
	for (int i = 2; i < argc; i++)
		equal &= dedupe(from, argv[i], st.st_size);
	close(from);
	exit(equal ? 0 : 1);
}
