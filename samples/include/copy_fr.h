/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * copy_file_range(2) with its flags, on kernels with copy_fr.ko and without.
 *
 * What a call does and its errors: copy_fr/README.md, and copy_file_range(2) of this project. The
 * Rust crate copy_fr does the same, with the same results.
 *
 * Include this first, or define _GNU_SOURCE. Nothing is needed but the C library; Linux 4.5.
 */
#ifndef COPY_FR_H
#define COPY_FR_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "linux/copy.h"

_Static_assert(sizeof(off_t) == 8, "copy_fr.h needs -D_FILE_OFFSET_BITS=64");

/* What became of the blocks in the destination's range. */
enum copy_fr_cloned {
	COPY_FR_CLONED_NO,	/* the call shared none */
	COPY_FR_CLONED_YES,	/* it shared some; with COPY_FR_REFLINK and COPY_FR_DEDUP, all */
	COPY_FR_CLONED_UNKNOWN,	/* flags were 0, and the filesystem does not tell; or only holes */
};

/* FIDEDUPERANGE takes no more at a time. */
#define COPY_FR_DEDUP_MAX	((size_t)1 << 30)
/* How much is read at a time. */
#define COPY_FR_BUFFER		((size_t)256 << 10)

struct copy_fr_range {
	int in;
	int out;
	off_t pos_in;
	off_t pos_out;
	size_t len;
	unsigned int flags;
};

/* Of the functions below, those that return an int return 0 or a negative errno. */
static inline ssize_t copy_fr_fail(int error)
{
	errno = -error;
	return -1;
}

/* The call itself. The C library's function may have opinions of its own about flags. */
static inline ssize_t copy_fr_syscall(int fd_in, off_t *off_in, int fd_out, off_t *off_out,
				      size_t len, unsigned int flags)
{
	return syscall(__NR_copy_file_range, fd_in, off_in, fd_out, off_out, len, flags);
}

/* A call for no bytes at the files' beginning: the checks that the kernel makes of the files. */
static inline int copy_fr_try(int fd_in, int fd_out, unsigned int flags)
{
	off_t pos_in = 0, pos_out = 0;

	return copy_fr_syscall(fd_in, &pos_in, fd_out, &pos_out, 0, flags) == -1 ? -errno : 0;
}

/* What FIEMAP says of a range of a file. */
static inline enum copy_fr_cloned copy_fr_fiemap(int fd, off_t pos, size_t len, unsigned int flags)
{
	enum { EXTENTS = 32 };
	union {
		struct fiemap map;
		char space[sizeof(struct fiemap) + EXTENTS * sizeof(struct fiemap_extent)];
	} query;
	const struct fiemap_extent *extents = query.map.fm_extents;
	enum copy_fr_cloned cloned = COPY_FR_CLONED_UNKNOWN;
	off_t end = pos + len;

	while (pos < end) {
		memset(&query, 0, sizeof(query));
		query.map.fm_start = pos;
		query.map.fm_length = end - pos;
		query.map.fm_flags = flags;
		query.map.fm_extent_count = EXTENTS;
		if (ioctl(fd, FS_IOC_FIEMAP, &query.map) == -1)
			return COPY_FR_CLONED_UNKNOWN;
		if (query.map.fm_mapped_extents == 0)
			break;
		for (unsigned int i = 0; i < query.map.fm_mapped_extents; i++) {
			if (extents[i].fe_flags & FIEMAP_EXTENT_SHARED)
				return COPY_FR_CLONED_YES;
			if (extents[i].fe_flags & FIEMAP_EXTENT_LAST)
				return COPY_FR_CLONED_NO;
			pos = extents[i].fe_logical + extents[i].fe_length;
		}
		cloned = COPY_FR_CLONED_NO;
	}
	return cloned;
}

/*
 * Whether a call without flags, which says nothing of it, shared blocks. Where somebody shared the
 * range's old blocks, the filesystem may show those until what was copied is written out.
 */
static inline enum copy_fr_cloned copy_fr_shares(int fd, off_t pos, size_t len)
{
	enum copy_fr_cloned cloned = copy_fr_fiemap(fd, pos, len, 0);

	if (cloned != COPY_FR_CLONED_YES)
		return cloned;
	return copy_fr_fiemap(fd, pos, len, FIEMAP_FLAG_SYNC);
}

/* The kernel's call, and what became of the blocks. */
static inline ssize_t copy_fr_kernel(int fd_in, off_t *off_in, int fd_out, off_t *off_out,
				     size_t len, unsigned int flags, int *cloned)
{
	ssize_t done = copy_fr_syscall(fd_in, off_in, fd_out, off_out, len, flags);
	int error = -errno;
	off_t end;

	if (done == -1 || !cloned)
		return done;
	*cloned = COPY_FR_CLONED_NO;
	if (done > 0 && flags == 0) {
		end = off_out ? *off_out : lseek(fd_out, 0, SEEK_CUR);
		*cloned = copy_fr_shares(fd_out, end - done, done);
	} else if (done > 0 && flags != COPY_FR_COPY) {
		*cloned = COPY_FR_CLONED_YES;
	}
	errno = -error;
	return done;
}

/* Filesystems that cannot share say so in several ways. */
static inline int copy_fr_remap_error(int error)
{
	const int kernel_enotsupp = 524;

	return error == -ENOTTY || error == -kernel_enotsupp ? -EOPNOTSUPP : error;
}

/*
 * Whether the filesystem shares blocks, and both files are on it: a request that is refused for its
 * negative offset, but after a look at that.
 */
static inline int copy_fr_check_sharing(const struct copy_fr_range *range)
{
	struct file_clone_range none = {
		.src_fd = range->in,
		.src_offset = 1ULL << 63,
		.src_length = 1,
	};
	int error = ioctl(range->out, FICLONERANGE, &none) == -1 ? copy_fr_remap_error(-errno) : 0;

	return error == -EXDEV || error == -EOPNOTSUPP ? error : 0;
}

/* Whether the files are of a kind that the call takes. */
static inline int copy_fr_check_files(const struct copy_fr_range *range)
{
	int error = copy_fr_try(range->in, range->out, 0);

	if (error && error != -EPERM && error != -ETXTBSY)
		return error;
	/* Without flags some files can be copied from one filesystem to another. */
	if (range->flags != COPY_FR_COPY && copy_fr_check_sharing(range) == -EXDEV)
		return -EXDEV;
	return error;
}

static inline int copy_fr_position(int fd, const off_t *off, off_t *pos)
{
	*pos = off ? *off : lseek(fd, 0, SEEK_CUR);
	return !off && *pos == -1 ? -errno : 0;
}

static inline void copy_fr_advance(int fd, off_t *off, off_t pos)
{
	if (off)
		*off = pos;
	else
		lseek(fd, pos, SEEK_SET);
}

/* Whether the range makes sense; a copy is cut at the process's limit. */
static inline int copy_fr_check_range(struct copy_fr_range *range, const struct stat *in,
				      const struct stat *out)
{
	struct rlimit limit;
	off_t end_in, end_out;

	if (range->pos_in < 0 || range->pos_out < 0)
		return -EINVAL;
	if (__builtin_add_overflow(range->pos_in, range->len, &end_in) ||
	    __builtin_add_overflow(range->pos_out, range->len, &end_out))
		return -EOVERFLOW;
	if (range->len == 0)
		return 0;
	if (range->flags != COPY_FR_COPY && copy_fr_check_sharing(range) != 0)
		return -EOPNOTSUPP;
	if (end_in > in->st_size)
		return -EINVAL;
	if (in->st_dev == out->st_dev && in->st_ino == out->st_ino &&
	    end_out > range->pos_in && range->pos_out < end_in)
		return -EINVAL;
	if (range->flags == COPY_FR_DEDUP && end_out > out->st_size)
		return -EINVAL;
	if (getrlimit(RLIMIT_FSIZE, &limit) == -1)
		return -errno;
	if (limit.rlim_cur == RLIM_INFINITY || (rlim_t)end_out <= limit.rlim_cur)
		return 0;
	if ((rlim_t)range->pos_out >= limit.rlim_cur) {
		raise(SIGXFSZ);
		return -EFBIG;
	}
	if (range->flags != COPY_FR_COPY)
		return -EINVAL;
	range->len = limit.rlim_cur - range->pos_out;
	return 0;
}

/*
 * A descriptor of the same file for `access`, through which any part of it may be read or written:
 * the given one if it will do, else a new one; -1 where there is none.
 */
static inline int copy_fr_buffered(int fd, int access)
{
	int flags = fcntl(fd, F_GETFL);
	char path[32];

	if (flags == -1)
		return -1;
	if (!(flags & O_DIRECT) &&
	    ((flags & O_ACCMODE) == access || (flags & O_ACCMODE) == O_RDWR))
		return fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, access | (flags & O_SYNC) | O_CLOEXEC);
}

static inline void copy_fr_close(int fd, int given)
{
	if (fd != -1 && fd != given)
		close(fd);
}

/* Reads and writes. Returns how much, less than all where something got in the way, or -1. */
static inline ssize_t copy_fr_transfer(const struct copy_fr_range *range, int in, int out,
				       char *buffer, size_t size)
{
	size_t done = 0;
	ssize_t got, put;

	while (done < range->len) {
		if (size > range->len - done)
			size = range->len - done;
		put = -1;
		got = pread(in, buffer, size, range->pos_in + done);
		if (got > 0)
			put = pwrite(out, buffer, got, range->pos_out + done);
		if (put > 0)
			done += put;
		/* What stopped a write half way is what the next call will say. */
		if (put > 0 && put == got)
			continue;
		if (done > 0)
			return done;
		/* The source has become shorter. */
		if (got == 0)
			return copy_fr_fail(-EINVAL);
		if (put == 0)
			return copy_fr_fail(-EIO);
		if (errno != EINTR)
			return -1;
	}
	return done;
}

/* COPY_FR_COPY: through this process's memory, so that nothing can come out shared. */
static inline ssize_t copy_fr_copy(const struct copy_fr_range *range)
{
	size_t size = range->len < COPY_FR_BUFFER ? range->len : COPY_FR_BUFFER;
	char *buffer = malloc(size);
	ssize_t done;
	int in, out, error;

	if (!buffer)
		return copy_fr_fail(-ENOMEM);
	in = copy_fr_buffered(range->in, O_RDONLY);
	out = copy_fr_buffered(range->out, O_WRONLY);
	done = copy_fr_transfer(range, in == -1 ? range->in : in, out == -1 ? range->out : out,
				buffer, size);
	error = -errno;
	copy_fr_close(in, range->in);
	copy_fr_close(out, range->out);
	free(buffer);
	errno = -error;
	return done;
}

/* COPY_FR_REFLINK. The kernel checks alignment and ends. */
static inline ssize_t copy_fr_reflink(const struct copy_fr_range *range)
{
	struct file_clone_range request = {
		.src_fd = range->in,
		.src_offset = range->pos_in,
		.src_length = range->len,
		.dest_offset = range->pos_out,
	};

	if (ioctl(range->out, FICLONERANGE, &request) == -1)
		return copy_fr_fail(copy_fr_remap_error(-errno));
	return range->len;
}

/* FIDEDUPERANGE would take less than it is asked for, and not say so. */
static inline int copy_fr_check_ends(const struct copy_fr_range *range, const struct stat *in,
				     const struct stat *out)
{
	off_t end_in = range->pos_in + range->len, end_out = range->pos_out + range->len;
	int block;

	if (ioctl(range->in, FIGETBSZ, &block) == -1)
		return copy_fr_remap_error(-errno);
	if (range->pos_in % block || range->pos_out % block)
		return -EINVAL;
	if (range->len % block && (end_in != in->st_size || end_out != out->st_size))
		return -EINVAL;
	return 0;
}

/* Returns how many bytes pread(2) got: fewer than asked for only at the end of the file. */
static inline ssize_t copy_fr_read(int fd, char *buffer, size_t size, off_t pos)
{
	size_t done = 0;
	ssize_t got;

	while (done < size) {
		got = pread(fd, buffer + done, size - done, pos + done);
		if (got == -1 && errno == EINTR)
			continue;
		if (got == -1)
			return -1;
		if (got == 0)
			break;
		done += got;
	}
	return done;
}

/* Returns -EBADE if the ranges do not hold the same bytes. */
static inline int copy_fr_compare(const struct copy_fr_range *range, int in, int out)
{
	char *buffer = malloc(2 * COPY_FR_BUFFER);
	size_t done = 0, size;
	int error = 0;

	if (!buffer)
		return -ENOMEM;
	while (!error && done < range->len) {
		ssize_t got_in, got_out;

		size = range->len - done < COPY_FR_BUFFER ? range->len - done : COPY_FR_BUFFER;
		got_in = copy_fr_read(in, buffer, size, range->pos_in + done);
		if (got_in == -1) {
			error = -errno;
			break;
		}
		got_out = copy_fr_read(out, buffer + size, size, range->pos_out + done);
		if (got_out == -1)
			error = -errno;
		else if ((size_t)got_in < size || (size_t)got_out < size)
			error = -EINVAL;
		else if (memcmp(buffer, buffer + size, size) != 0)
			error = -EBADE;
		done += size;
	}
	free(buffer);
	return error;
}

/* Shares up to COPY_FR_DEDUP_MAX bytes at `done`. */
static inline int copy_fr_dedupe_piece(const struct copy_fr_range *range, size_t *done)
{
	union {
		struct file_dedupe_range range;
		char space[sizeof(struct file_dedupe_range) +
			   sizeof(struct file_dedupe_range_info)];
	} request;
	struct file_dedupe_range_info *info = request.range.info;
	size_t left = range->len - *done;

	memset(&request, 0, sizeof(request));
	request.range.src_offset = range->pos_in + *done;
	request.range.src_length = left < COPY_FR_DEDUP_MAX ? left : COPY_FR_DEDUP_MAX;
	request.range.dest_count = 1;
	info->dest_fd = range->out;
	info->dest_offset = range->pos_out + *done;
	if (ioctl(range->in, FIDEDUPERANGE, &request.range) == -1)
		return copy_fr_remap_error(-errno);
	if (info->status == FILE_DEDUPE_RANGE_DIFFERS)
		return -EBADE;
	if (info->status < 0)
		return copy_fr_remap_error(info->status);
	if (info->bytes_deduped == 0)
		return -EINVAL;
	*done += info->bytes_deduped;
	return 0;
}

/* COPY_FR_DEDUP. A difference at the end leaves the beginning unshared, too. */
static inline ssize_t copy_fr_dedupe(struct copy_fr_range *range, const struct stat *st_in,
				     const struct stat *st_out)
{
	int error = copy_fr_check_ends(range, st_in, st_out);
	size_t done = 0;
	int in, out;

	if (!error && range->len > COPY_FR_DEDUP_MAX) {
		in = copy_fr_buffered(range->in, O_RDONLY);
		out = copy_fr_buffered(range->out, O_RDONLY);
		/* What may not be read here only the kernel can compare: a piece, all or nothing. */
		if (in == -1 || out == -1)
			range->len = COPY_FR_DEDUP_MAX;
		else
			error = copy_fr_compare(range, in, out);
		copy_fr_close(in, range->in);
		copy_fr_close(out, range->out);
	}
	while (!error && done < range->len)
		error = copy_fr_dedupe_piece(range, &done);
	return done > 0 ? (ssize_t)done : copy_fr_fail(error);
}

/**
 * copy_fr_fallback() - As copy_fr(), but without the kernel's flags.
 *
 * Everything is done by the calls that every kernel has, even where the kernel knows flags.
 */
static inline ssize_t copy_fr_fallback(int fd_in, off_t *off_in, int fd_out, off_t *off_out,
				       size_t len, unsigned int flags, int *cloned)
{
	struct copy_fr_range range = { .in = fd_in, .out = fd_out, .len = len, .flags = flags };
	struct stat st_in, st_out;
	ssize_t done;
	int error;

	if (flags != COPY_FR_COPY && flags != COPY_FR_REFLINK && flags != COPY_FR_DEDUP)
		return copy_fr_kernel(fd_in, off_in, fd_out, off_out, len, flags, cloned);
	error = copy_fr_check_files(&range);
	if (!error)
		error = copy_fr_position(fd_in, off_in, &range.pos_in);
	if (!error)
		error = copy_fr_position(fd_out, off_out, &range.pos_out);
	if (!error && (fstat(fd_in, &st_in) == -1 || fstat(fd_out, &st_out) == -1))
		error = -errno;
	if (!error)
		error = copy_fr_check_range(&range, &st_in, &st_out);
	if (error)
		return copy_fr_fail(error);

	if (range.len == 0)
		done = 0;
	else if (flags == COPY_FR_COPY)
		done = copy_fr_copy(&range);
	else if (flags == COPY_FR_REFLINK)
		done = copy_fr_reflink(&range);
	else
		done = copy_fr_dedupe(&range, &st_in, &st_out);
	if (done == -1)
		return -1;
	if (done > 0) {
		copy_fr_advance(fd_in, off_in, range.pos_in + done);
		copy_fr_advance(fd_out, off_out, range.pos_out + done);
	}
	if (cloned)
		*cloned = done > 0 && flags != COPY_FR_COPY ? COPY_FR_CLONED_YES : COPY_FR_CLONED_NO;
	return done;
}

/*
 * Whether a flagged call's EINVAL meant that the kernel takes no flags. That it does not is kept
 * for the process's lifetime; should it learn to, its calls no longer fail for that.
 */
static inline int copy_fr_kernel_takes_flags(int fd_in, int fd_out)
{
	static int none;

	if (__atomic_load_n(&none, __ATOMIC_RELAXED))
		return 0;
	/* Files that are refused without a flag prove nothing. */
	if (copy_fr_try(fd_in, fd_out, 0) != 0)
		return 0;
	if (copy_fr_try(fd_in, fd_out, COPY_FR_COPY) != -EINVAL)
		return 1;
	__atomic_store_n(&none, 1, __ATOMIC_RELAXED);
	return 0;
}

/**
 * copy_fr() - copy_file_range(2) with its flags, also where the kernel refuses them.
 * @fd_in: The source.
 * @off_in: Where the range begins in it, and then where it ended; NULL for the file position.
 * @fd_out: The destination.
 * @off_out: Likewise.
 * @len: How many bytes.
 * @flags: 0, COPY_FR_COPY, COPY_FR_REFLINK or COPY_FR_DEDUP.
 * @cloned: Set to one of enum copy_fr_cloned on success, if not NULL. It costs a look at the extents
 *          if flags are 0, otherwise nothing.
 *
 * Return: How many bytes were done, or -1 and errno, and then no offset has moved.
 */
static inline ssize_t copy_fr(int fd_in, off_t *off_in, int fd_out, off_t *off_out, size_t len,
			      unsigned int flags, int *cloned)
{
	ssize_t done = copy_fr_kernel(fd_in, off_in, fd_out, off_out, len, flags, cloned);

	if (done != -1 || errno != EINVAL)
		return done;
	if (flags != COPY_FR_COPY && flags != COPY_FR_REFLINK && flags != COPY_FR_DEDUP)
		return copy_fr_fail(-EINVAL);
	if (copy_fr_kernel_takes_flags(fd_in, fd_out))
		return copy_fr_fail(-EINVAL);
	return copy_fr_fallback(fd_in, off_in, fd_out, off_out, len, flags, cloned);
}

#endif
