// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Makes one file a clone of another, or fails: ioctl FICLONE. */
#include "command.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	struct stat st;
	int from, to;

	check_arguments(argc, argv, 2, 2, "ficlone SOURCE DESTINATION");
	from = open_source(argv[1], &st);
	to = make_destination(argv[2], &st);
	if (ioctl(to, FICLONE, from) == -1)
		fail("FICLONE");
	keep_destination(to, argv[2]);
	return 0;
}
