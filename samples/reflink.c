// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Makes one file share the blocks of another, or fails: copy_file_range(2) with
 * COPY_FR_REFLINK. The kernel takes the flag while copy_fr.ko is loaded; clone.c
 * works without.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/copy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void fail(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

static const char *reason(void)
{
	switch (errno) {
	case EINVAL:
		if (access("/sys/module/copy_fr", F_OK) == -1)
			return "no flags, copy_fr.ko is not loaded (modprobe, insmod)";
		return "the source became shorter, or is not a regular file";
	case EOPNOTSUPP:
		return "this filesystem cannot share blocks";
	case EXDEV:
		return "the files are on different filesystems";
	default:
		return strerror(errno);
	}
}

int main(int argc, char **argv)
{
	loff_t left, shared;
	struct stat st;
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

	for (left = st.st_size; left > 0; left -= shared) {
		shared = syscall(__NR_copy_file_range, from, NULL, to, NULL, (size_t)left,
				 COPY_FR_REFLINK);
		if (shared <= 0) {
			fprintf(stderr, "%s: not shared: %s\n", argv[2], reason());
			exit(EXIT_FAILURE);
		}
	}

	if (close(to) == -1)
		fail(argv[2]);
	close(from);
	exit(EXIT_SUCCESS);
}
