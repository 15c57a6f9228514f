// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Makes one call of the library, copy_fr.h, from the command line, and prints
 * its result. copy_fr/examples/copy_fr_once.rs is the same in Rust.
 *
 * An offset is passed to the call; without one the file position is used. LEN is
 * by default the rest of the source from there. The destination is created if it
 * does not exist, and not truncated.
 *
 * Exit status: 0, 1 if a call failed, 2 for a wrong command line.
 */
#include "copy_fr.h"

#include <ctype.h>
#include <stdio.h>

static const struct {
	int number;
	const char *name;
} errors[] = {
#define ERROR(name) { name, #name }
	ERROR(EACCES), ERROR(EBADE), ERROR(EBADF), ERROR(EBUSY), ERROR(EDQUOT), ERROR(EEXIST),
	ERROR(EFAULT), ERROR(EFBIG), ERROR(EINTR), ERROR(EINVAL), ERROR(EIO),
	ERROR(EISDIR), ERROR(ELOOP), ERROR(EMFILE), ERROR(ENAMETOOLONG), ERROR(ENOENT),
	ERROR(ENOMEM), ERROR(ENOSPC), ERROR(ENOSYS), ERROR(ENOTDIR), ERROR(ENXIO),
	ERROR(EOPNOTSUPP), ERROR(EOVERFLOW), ERROR(EPERM), ERROR(EROFS), ERROR(ETXTBSY),
	ERROR(EXDEV),
};

static const char usage[] =
	"usage: copy_fr_once [--copy|--reflink|--dedup] [--no-kernel] SRC[:OFF] DST[:OFF] [LEN]\n";

static void wrong_line(void)
{
	fputs(usage, stderr);
	exit(2);
}

static void fail(int error)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		if (errors[i].number == error) {
			printf("error %s\n", errors[i].name);
			exit(1);
		}
	}
	printf("error %d\n", error);
	exit(1);
}

/* Parses a decimal number of 64 bits; an offset may be negative for the kernel. */
static uint64_t number(const char *text)
{
	uint64_t value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || errno)
		wrong_line();
	return value;
}

/* Cuts the offset off the argument. Returns `off` with it, or NULL if there is none. */
static off_t *offset(char *argument, off_t *off)
{
	char *colon = strrchr(argument, ':');

	if (!colon || !isdigit((unsigned char)colon[1]) || colon[1 + strspn(colon + 1, "0123456789")])
		return NULL;
	*off = number(colon + 1);
	*colon = 0;
	return off;
}

int main(int argc, char **argv)
{
	static const char *const answers[] = {
		[COPY_FR_CLONED_NO] = "no",
		[COPY_FR_CLONED_YES] = "yes",
		[COPY_FR_CLONED_SOME] = "some",
		[COPY_FR_CLONED_UNKNOWN] = "unknown",
	};
	off_t from_pos = 0, to_pos = 0, *from_off, *to_off;
	unsigned int flags = 0;
	int fallback = 0, cloned, from, to, i;
	struct stat st;
	ssize_t done;
	size_t len;

	for (i = 1; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
		if (strcmp(argv[i], "--copy") == 0)
			flags |= COPY_FR_COPY;
		else if (strcmp(argv[i], "--reflink") == 0)
			flags |= COPY_FR_REFLINK;
		else if (strcmp(argv[i], "--dedup") == 0)
			flags |= COPY_FR_DEDUP;
		else if (strcmp(argv[i], "--no-kernel") == 0)
			fallback = 1;
		else if (strcmp(argv[i], "--help") == 0)
			exit(fputs(usage, stdout) == EOF);
		else
			wrong_line();
	}
	if (argc - i < 2 || argc - i > 3 || (flags & (flags - 1)))
		wrong_line();

	from_off = offset(argv[i], &from_pos);
	to_off = offset(argv[i + 1], &to_pos);
	from = open(argv[i], O_RDONLY);
	if (from == -1 || fstat(from, &st) == -1)
		fail(errno);
	to = open(argv[i + 1], O_WRONLY | O_CREAT, 0644);
	if (to == -1)
		fail(errno);
	if (argc - i == 3)
		len = number(argv[i + 2]);
	else
		len = from_pos >= 0 && from_pos < st.st_size ? st.st_size - from_pos : 0;

	done = (fallback ? copy_fr_fallback : copy_fr)(from, from_off, to, to_off, len, flags,
						       &cloned);
	if (done == -1)
		fail(errno);
	printf("bytes %zd cloned %s\n", done, answers[cloned]);
	exit(0);
}
