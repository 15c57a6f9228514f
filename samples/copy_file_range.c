// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Copies a file with copy_file_range(2), as the example of its manual page
 * does: all bytes, nothing shared, COPY_FR_COPY. The kernel takes the flag
 * while copy_fr.ko is loaded.
 *
 * Built with -DCOPY_FR_DEFAULT it passes no flag, which every kernel takes, and
 * reflinkfs shares the blocks.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/copy.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef COPY_FR_DEFAULT
#define FLAGS 0
#else
#define FLAGS COPY_FR_COPY
#endif

static void fail(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

/* The call itself: the C library's function is not asked, and cannot get in the way. */
static loff_t copy_range(int from, int to, size_t len)
{
	return syscall(__NR_copy_file_range, from, NULL, to, NULL, len, FLAGS);
}

static void fail_to_copy(void)
{
	const char *what = "copy_file_range";

	if (FLAGS && errno == EINVAL) {
		if (access("/sys/module/copy_fr", F_OK) == -1)
			what = "copy_file_range: no flags, copy_fr.ko is not loaded (modprobe, insmod)";
		errno = EINVAL;
	}
	fail(what);
}

int main(int argc, char **argv)
{
	struct stat st;
	loff_t left, copied;
	int from, to;

	if (argc != 3) {
		fprintf(stderr, "Usage: %s <source> <destination>\n", argv[0]);
		exit(EXIT_FAILURE);
	}

	from = open(argv[1], O_RDONLY);
	if (from == -1)
		fail(argv[1]);
	if (fstat(from, &st) == -1)
		fail("fstat");

	to = open(argv[2], O_CREAT | O_WRONLY | O_TRUNC, 0644);
	if (to == -1)
		fail(argv[2]);

	left = st.st_size;
	do {
		copied = copy_range(from, to, left);
		if (copied == -1)
			fail_to_copy();
		/* Without a flag the end of the file is no error, and would be met again and again. */
		if (copied == 0 && left > 0) {
			fprintf(stderr, "%s: the file became shorter while it was copied\n", argv[1]);
			exit(EXIT_FAILURE);
		}
		left -= copied;
	} while (left > 0);

	if (close(to) == -1)
		fail(argv[2]);
	close(from);
	exit(EXIT_SUCCESS);
}
