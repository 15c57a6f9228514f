// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Mounts forks of a mounted reflinkfs on directories: what mount(8) does with -o fork=BASE, many
 * times, and with a path of any length.
 */
#include "command.h"

#include <sys/syscall.h>
#include <time.h>

/* Of linux/mount.h, which some C libraries lack. */
#define FSCONFIG_SET_PATH 3
#define FSCONFIG_CMD_CREATE 6
#define MOVE_MOUNT_F_EMPTY_PATH 4

/* Prints what the kernel says of the failure in the context's log, or errno. */
static void fail_in(int context, const char *what)
{
	int error = errno;
	char line[1024];
	ssize_t len = read(context, line, sizeof(line) - 1);

	if (len <= 0)
		fail_with(1, what, strerror(error));
	line[len] = '\0';
	line[strcspn(line, "\n")] = '\0';
	/* Without "e ". */
	fail_with(1, what, strncmp(line, "e ", 2) ? line : line + 2);
}

static void fork_to(const char *base, const char *dir)
{
	int context = syscall(SYS_fsopen, "reflinkfs", 0);
	int mount;

	if (context == -1)
		fail("reflinkfs");
	if (syscall(SYS_fsconfig, context, FSCONFIG_SET_PATH, "fork", base, AT_FDCWD) == -1 ||
	    syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == -1)
		fail_in(context, base);
	mount = syscall(SYS_fsmount, context, 0, 0);
	if (mount == -1 ||
	    syscall(SYS_move_mount, mount, "", AT_FDCWD, dir, MOVE_MOUNT_F_EMPTY_PATH) == -1)
		fail(dir);
	close(mount);
	close(context);
}

int main(int argc, char **argv)
{
	struct timespec begin, end;
	double seconds;

	check_arguments(argc, argv, 2, INT_MAX, "fork_mount BASE DIRECTORY...");
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int i = 2; i < argc; i++)
		fork_to(argv[1], argv[i]);
	clock_gettime(CLOCK_MONOTONIC, &end);
	seconds = end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) / 1e9;
	printf("%d forks in %.3f s: %.2f ms each\n", argc - 2, seconds,
	       seconds * 1e3 / (argc - 2));
	return 0;
}
