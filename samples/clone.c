// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Makes one file a clone of another, or fails: ioctl FICLONE. */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void fail(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
	int from, to;

	if (argc != 3) {
		fprintf(stderr, "Usage: %s <source> <destination>\n", argv[0]);
		exit(EXIT_FAILURE);
	}

	from = open(argv[1], O_RDONLY);
	if (from == -1)
		fail(argv[1]);
	to = open(argv[2], O_CREAT | O_WRONLY | O_TRUNC, 0644);
	if (to == -1)
		fail(argv[2]);
	if (ioctl(to, FICLONE, from) == -1)
		fail("FICLONE");
	if (close(to) == -1)
		fail(argv[2]);
	close(from);
	exit(EXIT_SUCCESS);
}
