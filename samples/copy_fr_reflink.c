// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Makes one file share the blocks of another, or fails: copy_file_range(2) with
 * COPY_FR_REFLINK. The kernel takes the flag while copy_fr.ko is loaded;
 * ficlone.c works without.
 */
#include "command.h"

#include <linux/copy.h>
#include <sys/syscall.h>

int main(int argc, char **argv)
{
	loff_t left, shared;
	struct stat st;
	int from, to;

	check_arguments(argc, argv, 2, 2, "copy_fr_reflink SOURCE DESTINATION");
	from = open_source(argv[1], &st);
	to = make_destination(argv[2], &st);

	for (left = st.st_size; left > 0; left -= shared) {
		shared = syscall(__NR_copy_file_range, from, NULL, to, NULL, (size_t)left,
				 COPY_FR_REFLINK);
		if (shared <= 0) {
			fprintf(stderr, "%s: not shared: %s\n", argv[2], reason());
			exit(1);
		}
	}

	keep_destination(to, argv[2]);
	return 0;
}
