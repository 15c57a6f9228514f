/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Functions that the commands share: --help, and a destination that is created or replaced as a
 * whole.
 *
 * Exit status: 0 on success, 1 on a failure, which leaves the destination as it was, 2 for a wrong
 * command line.
 */
#ifndef COMMAND_H
#define COMMAND_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Prints the usage and exits, for --help or a wrong number of arguments. */
static inline void check_arguments(int argc, char **argv, int min, int max, const char *usage)
{
	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		printf("usage: %s\n", usage);
		exit(0);
	}
	if (argc - 1 < min || argc - 1 > max) {
		fprintf(stderr, "usage: %s\n", usage);
		exit(2);
	}
}

static inline void fail_with(int status, const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(status);
}

static inline void fail(const char *what)
{
	fail_with(1, what, strerror(errno));
}

/* The destination, with symbolic links followed, and the new file that will replace it. */
static char *destination, *temporary;

static inline void remove_temporary(void)
{
	if (temporary)
		unlink(temporary);
}

/* Returns the mode of the file to replace, or of a new file. */
static inline mode_t destination_mode(const char *name, const struct stat *source, struct stat *old)
{
	mode_t mask = umask(0);

	umask(mask);
	destination = realpath(name, NULL);
	if (!destination) {
		/* A dangling symbolic link is an error. */
		if (errno != ENOENT || lstat(name, old) == 0)
			fail(name);
		destination = strdup(name);
		if (!destination)
			fail(name);
		return 0666 & ~mask;
	}
	if (stat(destination, old) == -1)
		fail(name);
	if (old->st_dev == source->st_dev && old->st_ino == source->st_ino)
		fail_with(1, name, "is the source itself");
	if (S_ISDIR(old->st_mode))
		fail_with(1, name, strerror(EISDIR));
	if (!S_ISREG(old->st_mode))
		fail_with(1, name, "not a regular file");
	if (access(destination, W_OK) == -1)
		fail(name);
	return old->st_mode & 0777;
}

/*
 * Creates an empty file next to the destination. The destination does not change before
 * keep_destination(); without that, the new file is removed when the program exits.
 */
static inline int make_destination(const char *name, const struct stat *source)
{
	static const char pattern[] = ".copy.XXXXXX";
	struct stat old = { .st_uid = getuid(), .st_gid = getgid() }, new;
	mode_t mode = destination_mode(name, source, &old);
	const char *slash = strrchr(destination, '/');
	int directory = slash ? (int)(slash - destination) + 1 : 0;
	int fd;

	if (asprintf(&temporary, "%.*s%s", directory, destination, pattern) == -1)
		fail(name);
	fd = mkstemp(temporary);
	if (fd == -1) {
		temporary = NULL;
		fail(name);
	}
	atexit(remove_temporary);
	/* Keeps the owner of a file that is replaced. */
	if (fstat(fd, &new) == -1)
		fail(name);
	if (old.st_ino && (old.st_uid != new.st_uid || old.st_gid != new.st_gid) &&
	    fchown(fd, old.st_uid, old.st_gid) == -1)
		fail(name);
	if (fchmod(fd, mode) == -1)
		fail(name);
	return fd;
}

/* Renames the new file to the destination. */
static inline void keep_destination(int fd, const char *name)
{
	if (close(fd) == -1 || rename(temporary, destination) == -1)
		fail(name);
	temporary = NULL;
}

/* Opens the source, which must be a regular file. */
static inline int open_source(const char *name, struct stat *st)
{
	int fd = open(name, O_RDONLY);

	if (fd == -1 || fstat(fd, st) == -1)
		fail(name);
	if (S_ISDIR(st->st_mode))
		fail_with(1, name, strerror(EISDIR));
	if (!S_ISREG(st->st_mode))
		fail_with(1, name, "not a regular file");
	return fd;
}

/* Returns the reason for the failure of a flagged call. */
static inline const char *reason(void)
{
	switch (errno) {
	case EINVAL:
		if (access("/sys/module/copy_fr", F_OK) == -1)
			return "Invalid argument: the kernel takes no flags; load copy_fr.ko (insmod)";
		return "Invalid argument: a file became shorter meanwhile";
	case EOPNOTSUPP:
		return "this filesystem cannot share blocks";
	case EBUSY:
		return "a block is pinned, or the file is being written to; try again";
	default:
		return strerror(errno);
	}
}

#endif
