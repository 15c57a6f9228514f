// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Makes two equal files share their blocks: copy_file_range(2) with
 * COPY_FR_DEDUP. The kernel compares. It takes the flag while copy_fr.ko is
 * loaded; dedupe.c works without.
 *
 * Exit status: 0 if the files were equal and now share, 1 if they were not, 2 on
 * an error.
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
	exit(2);
}

static const char *reason(void)
{
	switch (errno) {
	case EINVAL:
		if (access("/sys/module/copy_fr", F_OK) == -1)
			return "no flags, copy_fr.ko is not loaded (modprobe, insmod)";
		return "a file became shorter, or is not a regular file";
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
	struct stat st_from, st_to;
	loff_t left, shared;
	int from, to;

	if (argc != 3) {
		fprintf(stderr, "Usage: %s <source> <destination>\n", argv[0]);
		exit(2);
	}

	from = open(argv[1], O_RDONLY);
	if (from == -1 || fstat(from, &st_from) == -1)
		fail(argv[1]);
	to = open(argv[2], O_WRONLY);
	if (to == -1 || fstat(to, &st_to) == -1)
		fail(argv[2]);
	if (st_from.st_size != st_to.st_size) {
		printf("%s: of another size\n", argv[2]);
		exit(1);
	}

	for (left = st_from.st_size; left > 0; left -= shared) {
		shared = syscall(__NR_copy_file_range, from, NULL, to, NULL, (size_t)left,
				 COPY_FR_DEDUP);
		if (shared == -1 && errno == EBADE) {
			printf("%s: differs\n", argv[2]);
			exit(1);
		}
		if (shared <= 0) {
			fprintf(stderr, "%s: not shared: %s\n", argv[2], reason());
			exit(2);
		}
	}
	printf("%s: shares %lld bytes\n", argv[2], (long long)st_from.st_size);

	close(to);
	close(from);
	exit(0);
}
