// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Copies a file with copy_file_range(2), as the example of its manual page
 * does: all bytes, nothing shared, COPY_FR_COPY. The kernel takes the flag
 * while copy_fr.ko is loaded.
 *
 * Built with -DCOPY_FR_DEFAULT it passes no flag, which every kernel takes, and
 * reflinkfs shares the blocks.
 */
#include "command.h"

#include <linux/copy.h>
#include <sys/syscall.h>

#ifdef COPY_FR_DEFAULT
#define FLAGS 0
#define USAGE "copy_file_range-default SOURCE DESTINATION"
#else
#define FLAGS COPY_FR_COPY
#define USAGE "copy_file_range SOURCE DESTINATION"
#endif

/* Makes the system call itself, as the C library's function may refuse flags. */
static loff_t copy_range(int from, int to, size_t len)
{
	return syscall(__NR_copy_file_range, from, NULL, to, NULL, len, FLAGS);
}

int main(int argc, char **argv)
{
	loff_t left, copied;
	struct stat st;
	int from, to;

	check_arguments(argc, argv, 2, 2, USAGE);
	from = open_source(argv[1], &st);
	to = make_destination(argv[2], &st);

	for (left = st.st_size; left > 0; left -= copied) {
		copied = copy_range(from, to, left);
		if (copied == -1)
			fail_with(1, "copy_file_range", FLAGS ? reason() : strerror(errno));
		/* Without a flag the end of the file is no error: the loop would never end. */
		if (copied == 0)
			fail_with(1, argv[1], "the file became shorter while it was copied");
	}

	keep_destination(to, argv[2]);
	return 0;
}
