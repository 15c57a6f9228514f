// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Makes two equal files share their blocks: copy_file_range(2) with
 * COPY_FR_DEDUP. The kernel compares. It takes the flag while copy_fr.ko is
 * loaded; fideduperange.c works without.
 *
 * Exit status: 0 if the files were equal and now share, 1 if they were not, 2 on
 * an error.
 */
#include "command.h"

#include <linux/copy.h>
#include <sys/syscall.h>

int main(int argc, char **argv)
{
	struct stat st_from, st_to;
	loff_t left, shared;
	int from, to;

	check_arguments(argc, argv, 2, 2, "copy_fr_dedup FILE FILE");
	from = open(argv[1], O_RDONLY);
	if (from == -1 || fstat(from, &st_from) == -1)
		fail_with(2, argv[1], strerror(errno));
	to = open(argv[2], O_WRONLY);
	if (to == -1 || fstat(to, &st_to) == -1)
		fail_with(2, argv[2], strerror(errno));
	if (st_from.st_dev == st_to.st_dev && st_from.st_ino == st_to.st_ino)
		fail_with(2, argv[2], "is the same file");
	if (st_from.st_size != st_to.st_size) {
		printf("%s: of another size\n", argv[2]);
		return 1;
	}

	for (left = st_from.st_size; left > 0; left -= shared) {
		shared = syscall(__NR_copy_file_range, from, NULL, to, NULL, (size_t)left,
				 COPY_FR_DEDUP);
		if (shared == -1 && errno == EBADE) {
			printf("%s: differs\n", argv[2]);
			return 1;
		}
		if (shared <= 0) {
			fprintf(stderr, "%s: not shared: %s\n", argv[2], reason());
			return 2;
		}
	}
	printf("%s: shares %lld bytes\n", argv[2], (long long)st_from.st_size);
	return 0;
}
