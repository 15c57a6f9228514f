/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * copy_file_range(2) with its flags, on kernels with copy_fr.ko and without.
 *
 * copy_fr/README.md, and copy_file_range(2) of this project, describe the calls and their errors.
 * The Rust crate copy_fr does the same, with the same results.
 *
 * For C11 (-std=gnu11 and later, cc's default) and C++17, in any place among other headers, with or
 * without _GNU_SOURCE. Every name begins with copy_fr or COPY_FR. It needs only the C library.
 *
 * It opens and closes no file: closing any descriptor of a file releases all POSIX locks that the
 * process has on it.
 */
#ifndef COPY_FR_H
#define COPY_FR_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "linux/copy.h"

#ifdef __cplusplus
static_assert(sizeof(off_t) == 8, "copy_fr.h needs -D_FILE_OFFSET_BITS=64");
#else
_Static_assert(sizeof(off_t) == 8, "copy_fr.h needs -D_FILE_OFFSET_BITS=64");
#endif

/* Whether the blocks in the destination's range are shared. */
enum copy_fr_cloned {
	COPY_FR_CLONED_NO,	/* none is */
	COPY_FR_CLONED_YES,	/* all are */
	COPY_FR_CLONED_SOME,	/* some are, some are not */
	COPY_FR_CLONED_UNKNOWN,	/* no FIEMAP; or only holes; or too many extents */
};

/* The most bytes of one FIDEDUPERANGE. */
#define COPY_FR_DEDUP_MAX	((size_t)1 << 30)
/* The size of the buffer for reading, in bytes. */
#define COPY_FR_BUFFER		((size_t)256 << 10)
/* The alignment of offsets, lengths and memory for O_DIRECT, enough for all but rare devices. */
#define COPY_FR_ALIGN		((size_t)4096)
/* The most extents of one FIEMAP call, and the most such calls. */
#define COPY_FR_EXTENTS		32
#define COPY_FR_ROUNDS		1024

#if defined(O_DIRECT)
#define COPY_FR_O_DIRECT	O_DIRECT
#elif defined(__O_DIRECT)
#define COPY_FR_O_DIRECT	__O_DIRECT
#else
#error "define _GNU_SOURCE, for O_DIRECT"
#endif
#define COPY_FR_SEEK_DATA	3
#define COPY_FR_SEEK_HOLE	4

/* Structures of <linux/fs.h> and <linux/fiemap.h>, without the other names of these headers. */
struct copy_fr_clone_request {
	int64_t src_fd;
	uint64_t src_offset, src_length, dest_offset;
};

struct copy_fr_dedupe_head {
	uint64_t src_offset, src_length;
	uint16_t dest_count, reserved1;
	uint32_t reserved2;
};

struct copy_fr_dedupe_request {
	struct copy_fr_dedupe_head head;
	int64_t dest_fd;
	uint64_t dest_offset, bytes_deduped;
	int32_t status;
	uint32_t reserved;
};

struct copy_fr_map_head {
	uint64_t start, length;
	uint32_t flags, mapped_extents, extent_count, reserved;
};

struct copy_fr_map {
	struct copy_fr_map_head head;
	struct {
		uint64_t logical, physical, length, reserved64[2];
		uint32_t flags, reserved[3];
	} extents[COPY_FR_EXTENTS];
};

struct copy_fr_space {
	int16_t type, whence;
	int64_t start, len;
	int32_t sysid;
	uint32_t pid;
	int32_t reserved[4];
};

#define COPY_FR_IOC_CLONE	_IOW(0x94, 13, struct copy_fr_clone_request)
#define COPY_FR_IOC_DEDUPE	_IOWR(0x94, 54, struct copy_fr_dedupe_head)
#define COPY_FR_IOC_MAP		_IOWR('f', 11, struct copy_fr_map_head)
#define COPY_FR_IOC_BLOCK_SIZE	_IO(0, 2)
/* As fallocate(2) with FALLOC_FL_PUNCH_HOLE, FS_IOC_UNRESVSP64. */
#define COPY_FR_IOC_PUNCH	_IOW('X', 43, struct copy_fr_space)
#define COPY_FR_MAP_SYNC	1u
#define COPY_FR_MAP_LAST	1u
#define COPY_FR_MAP_UNWRITTEN	0x800u
#define COPY_FR_MAP_SHARED	0x2000u
#define COPY_FR_DIFFERS		1

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

/* Makes the system call itself, as the C library's function may refuse flags. */
static inline ssize_t copy_fr_syscall(int fd_in, off_t *off_in, int fd_out, off_t *off_out,
				      size_t len, unsigned int flags)
{
	return syscall(__NR_copy_file_range, fd_in, off_in, fd_out, off_out, len, flags);
}

/* Calls copy_file_range for no bytes at offset 0: the kernel checks only the files. */
static inline int copy_fr_try(int fd_in, int fd_out, unsigned int flags)
{
	off_t pos_in = 0, pos_out = 0;

	return copy_fr_syscall(fd_in, &pos_in, fd_out, &pos_out, 0, flags) == -1 ? -errno : 0;
}

/*
 * Returns whether an error means that there is no such call: an old kernel, or a seccomp filter. A
 * filter may return EPERM, but returns it for closed descriptors, too.
 */
static inline int copy_fr_is_missing(int error)
{
	if (error != -EPERM)
		return error == -ENOSYS;
	return copy_fr_syscall(-1, NULL, -1, NULL, 0, 0) == -1 && errno != EBADF;
}

/* Returns whether FIEMAP reports shared blocks: SMB has FIEMAP, but does not know. */
static inline int copy_fr_tells(int fd)
{
	struct statfs st;
	uint32_t type;

	if (fstatfs(fd, &st) == -1)
		return 0;
	type = (uint32_t)st.f_type;
	return type != 0xff534d42u && type != 0xfe534d42u && type != 0x517bu;
}

/* Returns whether FIEMAP reports a range of a file as shared. */
static inline enum copy_fr_cloned copy_fr_extents(int fd, off_t pos, size_t len,
						  unsigned int flags)
{
	off_t end = pos + (off_t)len;
	int shared = 0, own = 0, last = 0;
	struct copy_fr_map map;

	for (int round = 0; pos < end && !last; round++) {
		memset(&map.head, 0, sizeof(map.head));
		map.head.start = (uint64_t)pos;
		map.head.length = (uint64_t)(end - pos);
		map.head.flags = flags;
		map.head.extent_count = COPY_FR_EXTENTS;
		if (round == COPY_FR_ROUNDS || ioctl(fd, COPY_FR_IOC_MAP, &map) == -1)
			return COPY_FR_CLONED_UNKNOWN;
		if (map.head.mapped_extents == 0)
			break;
		for (uint32_t i = 0; i < map.head.mapped_extents && i < COPY_FR_EXTENTS; i++) {
			uint32_t what = map.extents[i].flags;

			/* Unwritten blocks count as a hole. */
			if (what & COPY_FR_MAP_SHARED)
				shared = 1;
			else if (!(what & COPY_FR_MAP_UNWRITTEN))
				own = 1;
			last = (what & COPY_FR_MAP_LAST) != 0;
			pos = (off_t)(map.extents[i].logical + map.extents[i].length);
		}
		if (shared && own)
			return COPY_FR_CLONED_SOME;
	}
	if (shared)
		return COPY_FR_CLONED_YES;
	return own ? COPY_FR_CLONED_NO : COPY_FR_CLONED_UNKNOWN;
}

/* Returns whether a call that did these bytes shared their blocks. It may have copied instead. */
static inline enum copy_fr_cloned copy_fr_shares(int fd, off_t pos, size_t len, unsigned int flags)
{
	enum copy_fr_cloned cloned;

	if (len == 0 || flags == COPY_FR_COPY)
		return COPY_FR_CLONED_NO;
	if (pos < 0 || !copy_fr_tells(fd))
		return COPY_FR_CLONED_UNKNOWN;
	cloned = copy_fr_extents(fd, pos, len, 0);
	/*
	 * If the range's old blocks were shared, the filesystem may report those until it has written
	 * the copy back.
	 */
	if (flags == 0 && (cloned == COPY_FR_CLONED_YES || cloned == COPY_FR_CLONED_SOME))
		cloned = copy_fr_extents(fd, pos, len, COPY_FR_MAP_SYNC);
	return cloned;
}

/* Makes the kernel's call, and sets `cloned`. */
static inline ssize_t copy_fr_kernel(int fd_in, off_t *off_in, int fd_out, off_t *off_out,
				     size_t len, unsigned int flags, int *cloned)
{
	off_t start = off_out ? *off_out : cloned ? lseek(fd_out, 0, SEEK_CUR) : 0;
	ssize_t done = copy_fr_syscall(fd_in, off_in, fd_out, off_out, len, flags);
	int error = -errno;

	if (done != -1 && cloned)
		*cloned = copy_fr_shares(fd_out, start, (size_t)done, flags);
	errno = -error;
	return done;
}

/* Filesystems that cannot share return several errors for that. */
static inline int copy_fr_remap_error(int error)
{
	const int kernel_enotsupp = 524;

	return error == -ENOTTY || error == -kernel_enotsupp ? -EOPNOTSUPP : error;
}

static inline int copy_fr_clone(int in, uint64_t pos_in, int out, uint64_t pos_out, uint64_t len)
{
	struct copy_fr_clone_request request;

	request.src_fd = in;
	request.src_offset = pos_in;
	request.src_length = len;
	request.dest_offset = pos_out;
	if (ioctl(out, COPY_FR_IOC_CLONE, &request) == -1)
		return copy_fr_remap_error(-errno);
	return 0;
}

/*
 * Checks that the filesystem can share blocks, and that both files are on it, by a request with a
 * negative offset: the kernel checks the offset after these.
 */
static inline int copy_fr_check_sharing(const struct copy_fr_range *range)
{
	int error = copy_fr_clone(range->in, 1ULL << 63, range->out, 0, 1);

	return error == -EXDEV || error == -EOPNOTSUPP ? error : 0;
}

/* Makes the kernel's checks of the files, if there is no such call. */
static inline int copy_fr_check_descriptors(const struct copy_fr_range *range)
{
	int flags_in = fcntl(range->in, F_GETFL), flags_out = fcntl(range->out, F_GETFL);
	struct stat in, out;

	if (flags_in == -1 || flags_out == -1 || fstat(range->in, &in) == -1 ||
	    fstat(range->out, &out) == -1)
		return -errno;
	if (S_ISDIR(in.st_mode) || S_ISDIR(out.st_mode))
		return -EISDIR;
	if (!S_ISREG(in.st_mode) || !S_ISREG(out.st_mode))
		return -EINVAL;
	if ((flags_in & O_ACCMODE) == O_WRONLY || (flags_out & O_ACCMODE) == O_RDONLY ||
	    (flags_out & O_APPEND))
		return -EBADF;
	return copy_fr_check_sharing(range) == -EXDEV ? -EXDEV : 0;
}

/* Checks that the call takes these files. */
static inline int copy_fr_check_files(const struct copy_fr_range *range)
{
	int error = copy_fr_try(range->in, range->out, 0);

	if (copy_fr_is_missing(error))
		return copy_fr_check_descriptors(range);
	if (error && error != -EPERM && error != -ETXTBSY)
		return error;
	/* Without flags some files can be copied from one filesystem to another. */
	if (range->flags != 0 && range->flags != COPY_FR_COPY &&
	    copy_fr_check_sharing(range) == -EXDEV)
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

/* Checks the range; cuts a copy at the process's limit. */
static inline int copy_fr_check_range(struct copy_fr_range *range, const struct stat *in,
				      const struct stat *out)
{
	int copies = range->flags == 0 || range->flags == COPY_FR_COPY;
	off_t end_in, end_out;
	struct rlimit limit;

	if (range->pos_in < 0 || range->pos_out < 0)
		return -EINVAL;
	if (__builtin_add_overflow(range->pos_in, range->len, &end_in) ||
	    __builtin_add_overflow(range->pos_out, range->len, &end_out))
		return -EOVERFLOW;
	/* Without a flag the end of the source cuts the range. */
	if (range->flags == 0 && end_in > in->st_size) {
		range->len = range->pos_in < in->st_size ? (size_t)(in->st_size - range->pos_in) : 0;
		end_in = range->pos_in + (off_t)range->len;
		end_out = range->pos_out + (off_t)range->len;
	}
	if (range->len == 0)
		return 0;
	if (!copies && copy_fr_check_sharing(range) != 0)
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
	if (!copies)
		return -EINVAL;
	range->len = (size_t)(limit.rlim_cur - (rlim_t)range->pos_out);
	return 0;
}

static inline int copy_fr_is_direct(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags != -1 && (flags & COPY_FR_O_DIRECT);
}

/* Allocates memory for `size` bytes and the unaligned rests around them, aligned for O_DIRECT. */
static inline char *copy_fr_buffer(size_t size)
{
	void *buffer;
	int error = posix_memalign(&buffer, COPY_FR_ALIGN, size + 2 * COPY_FR_ALIGN);

	errno = error;
	return error ? NULL : (char *)buffer;
}

/* As pread(2), and at any offset also of a file open with O_DIRECT. */
static inline ssize_t copy_fr_pread(int fd, int direct, char *buffer, size_t size, off_t pos)
{
	size_t skip = direct ? (size_t)pos % COPY_FR_ALIGN : 0;
	size_t whole = direct ? (skip + size + COPY_FR_ALIGN - 1) & ~(COPY_FR_ALIGN - 1) : size;
	ssize_t got = pread(fd, buffer, whole, pos - (off_t)skip);

	if (got == -1 || !direct)
		return got;
	if ((size_t)got <= skip)
		return 0;
	got -= (ssize_t)skip;
	if ((size_t)got > size)
		got = (ssize_t)size;
	if (skip)
		memmove(buffer, buffer + skip, (size_t)got);
	return got;
}

/*
 * Finds the begin and end of the next data from `pos` on, up to `end`. lseek(2) moves the file
 * position for that; restores it.
 */
static inline void copy_fr_find_data(int fd, off_t pos, off_t end, off_t *data, off_t *hole)
{
	off_t old = lseek(fd, 0, SEEK_CUR);
	off_t first = lseek(fd, pos, COPY_FR_SEEK_DATA), last = -1;
	int error = first == -1 ? errno : 0;
	struct stat st;

	if (first != -1)
		last = lseek(fd, first, COPY_FR_SEEK_HOLE);
	lseek(fd, old, SEEK_SET);
	/* No data: a hole up to the current end of the file. */
	if (error == ENXIO && fstat(fd, &st) != -1)
		first = st.st_size > pos ? st.st_size : pos;
	if (first < pos)
		first = pos;
	*data = first < end ? first : end;
	*hole = last > *data && last < end ? last : end;
}

/* Copies up to `size` bytes. Returns the number of bytes, or -1. */
static inline ssize_t copy_fr_step(const struct copy_fr_range *range, size_t done, int direct_in,
				   char *buffer, size_t size)
{
	ssize_t got = copy_fr_pread(range->in, direct_in, buffer, size,
				    range->pos_in + (off_t)done);
	ssize_t put;

	if (got == -1)
		return -1;
	/* The source has become shorter. */
	if (got == 0)
		return copy_fr_fail(-EINVAL);
	put = pwrite(range->out, buffer, (size_t)got, range->pos_out + (off_t)done);
	return put == 0 ? copy_fr_fail(-EIO) : put;
}

/*
 * Makes a hole, and returns whether it could. A hole beyond the destination's end needs no call: a
 * later write behind it makes it.
 */
static inline int copy_fr_punch(const struct copy_fr_range *range, size_t done, size_t len)
{
	struct copy_fr_space space;
	struct stat st;

	memset(&space, 0, sizeof(space));
	space.start = range->pos_out + (off_t)done;
	space.len = (off_t)len;
	if (fstat(range->out, &st) == -1)
		return 0;
	return space.start >= st.st_size || ioctl(range->out, COPY_FR_IOC_PUNCH, &space) == 0;
}

/*
 * COPY_FR_COPY: copies through this process's memory, so that no block is shared. Holes of the source
 * stay holes if the destination can have them. Returns the number of bytes, fewer than the range after
 * a failure half way, or -1.
 */
static inline ssize_t copy_fr_transfer(const struct copy_fr_range *range, char *buffer, int holes)
{
	int direct_in = copy_fr_is_direct(range->in), direct_out = copy_fr_is_direct(range->out);
	off_t end = range->pos_in + (off_t)range->len, data = range->pos_in;
	off_t hole = holes && !direct_out ? data : end;
	/* The number of bytes done, and the end of the last write. */
	size_t done = 0, written = 0;

	while (done < range->len) {
		off_t pos = range->pos_in + (off_t)done;
		ssize_t step;
		size_t size;

		if (pos >= hole)
			copy_fr_find_data(range->in, pos, end, &data, &hole);
		if (data > pos && copy_fr_punch(range, done, (size_t)(data - pos))) {
			done += (size_t)(data - pos);
			continue;
		}
		size = (size_t)(hole - pos) < COPY_FR_BUFFER ? (size_t)(hole - pos) : COPY_FR_BUFFER;
		/* The unaligned rest, which direct I/O cannot write, comes last, and fails. */
		if (direct_out && size > COPY_FR_ALIGN)
			size -= size % COPY_FR_ALIGN;
		step = copy_fr_step(range, done, direct_in, buffer, size);
		if (step == -1)
			break;
		done += (size_t)step;
		written = done;
	}
	/* A hole at the end: makes the destination longer, unless another process has. */
	if (done > written) {
		off_t last = range->pos_out + (off_t)done - 1;
		int error = errno;
		struct stat st;

		if (fstat(range->out, &st) == -1 ||
		    (st.st_size <= last && pwrite(range->out, "", 1, last) != 1))
			done = written;
		else
			errno = error;
	}
	return done > 0 ? (ssize_t)done : -1;
}

static inline ssize_t copy_fr_copy(const struct copy_fr_range *range, const struct stat *in)
{
	char *buffer = copy_fr_buffer(range->len < COPY_FR_BUFFER ? range->len : COPY_FR_BUFFER);
	ssize_t done;
	int error;

	if (!buffer)
		return -1;
	done = copy_fr_transfer(range, buffer, in->st_blocks < in->st_size / 512);
	error = errno;
	free(buffer);
	errno = error;
	return done;
}

/* COPY_FR_REFLINK. The kernel checks alignment and ends. */
static inline ssize_t copy_fr_reflink(const struct copy_fr_range *range)
{
	int error = copy_fr_clone(range->in, (uint64_t)range->pos_in, range->out,
				  (uint64_t)range->pos_out, range->len);

	return error ? copy_fr_fail(error) : (ssize_t)range->len;
}

/* Checks the ends of the range: FIDEDUPERANGE would silently do less. */
static inline int copy_fr_check_ends(const struct copy_fr_range *range, const struct stat *in,
				     const struct stat *out)
{
	off_t end_in = range->pos_in + (off_t)range->len, end_out = range->pos_out + (off_t)range->len;
	int block;

	if (ioctl(range->in, COPY_FR_IOC_BLOCK_SIZE, &block) == -1)
		return copy_fr_remap_error(-errno);
	if (range->pos_in % block || range->pos_out % block)
		return -EINVAL;
	if (range->len % (size_t)block && (end_in != in->st_size || end_out != out->st_size))
		return -EINVAL;
	return 0;
}

/* As pread(2), but returns fewer bytes only at the end of the file. */
static inline ssize_t copy_fr_read(int fd, char *buffer, size_t size, off_t pos)
{
	int direct = copy_fr_is_direct(fd);
	size_t done = 0;
	ssize_t got;

	/* One call for O_DIRECT, as the memory must be aligned. */
	while (done < size) {
		got = copy_fr_pread(fd, direct, buffer + done, size - done, pos + (off_t)done);
		if (got == -1)
			return -1;
		done += (size_t)got;
		if (got == 0 || direct)
			break;
	}
	return (ssize_t)done;
}

/* Returns -EBADE if the ranges differ. */
static inline int copy_fr_compare_with(const struct copy_fr_range *range, char *one, char *other)
{
	size_t done = 0;

	while (done < range->len) {
		size_t left = range->len - done;
		size_t size = left < COPY_FR_BUFFER ? left : COPY_FR_BUFFER;
		ssize_t got_in = copy_fr_read(range->in, one, size, range->pos_in + (off_t)done);
		ssize_t got_out = -1;

		if (got_in != -1)
			got_out = copy_fr_read(range->out, other, size,
					       range->pos_out + (off_t)done);
		if (got_out == -1)
			return -errno;
		if ((size_t)got_in < size || (size_t)got_out < size)
			return -EINVAL;
		if (memcmp(one, other, size) != 0)
			return -EBADE;
		done += size;
	}
	return 0;
}

static inline int copy_fr_compare(const struct copy_fr_range *range)
{
	char *one = copy_fr_buffer(COPY_FR_BUFFER), *other = copy_fr_buffer(COPY_FR_BUFFER);
	int error = one && other ? copy_fr_compare_with(range, one, other) : -ENOMEM;

	free(one);
	free(other);
	return error;
}

/* Shares up to COPY_FR_DEDUP_MAX bytes at `done`. */
static inline int copy_fr_dedupe_piece(const struct copy_fr_range *range, size_t *done)
{
	struct copy_fr_dedupe_request request;
	size_t left = range->len - *done;

	memset(&request, 0, sizeof(request));
	request.head.src_offset = (uint64_t)range->pos_in + *done;
	request.head.src_length = left < COPY_FR_DEDUP_MAX ? left : COPY_FR_DEDUP_MAX;
	request.head.dest_count = 1;
	request.dest_fd = range->out;
	request.dest_offset = (uint64_t)range->pos_out + *done;
	if (ioctl(range->in, COPY_FR_IOC_DEDUPE, &request) == -1)
		return copy_fr_remap_error(-errno);
	if (request.status == COPY_FR_DIFFERS)
		return -EBADE;
	if (request.status < 0)
		return copy_fr_remap_error(request.status);
	if (request.bytes_deduped == 0)
		return -EINVAL;
	*done += request.bytes_deduped;
	return 0;
}

/* COPY_FR_DEDUP. A difference at the end leaves the beginning unshared, too. */
static inline ssize_t copy_fr_dedupe(struct copy_fr_range *range, const struct stat *st_in,
				     const struct stat *st_out)
{
	int error = copy_fr_check_ends(range, st_in, st_out);
	size_t done = 0;

	if (!error && range->len > COPY_FR_DEDUP_MAX) {
		/* This process may not read the destination: lets the kernel compare one step. */
		if ((fcntl(range->out, F_GETFL) & O_ACCMODE) == O_WRONLY)
			range->len = COPY_FR_DEDUP_MAX;
		else
			error = copy_fr_compare(range);
	}
	while (!error && done < range->len)
		error = copy_fr_dedupe_piece(range, &done);
	return done > 0 ? (ssize_t)done : copy_fr_fail(error);
}

/* Implements the flags, and no flag, by the calls that every kernel has. */
static inline ssize_t copy_fr_by_other_calls(int fd_in, off_t *off_in, int fd_out, off_t *off_out,
					     size_t len, unsigned int flags, int *cloned)
{
	struct copy_fr_range range;
	struct stat st_in, st_out;
	ssize_t done = 0;
	int error;

	range.in = fd_in;
	range.out = fd_out;
	range.len = len;
	range.flags = flags;
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

	if (range.len > 0) {
		if (flags == 0) {
			done = copy_fr_reflink(&range);
			if (done == -1)
				done = copy_fr_copy(&range, &st_in);
		} else if (flags == COPY_FR_COPY) {
			done = copy_fr_copy(&range, &st_in);
		} else if (flags == COPY_FR_REFLINK) {
			done = copy_fr_reflink(&range);
		} else {
			done = copy_fr_dedupe(&range, &st_in, &st_out);
		}
	}
	if (done == -1)
		return -1;
	if (done > 0) {
		copy_fr_advance(fd_in, off_in, range.pos_in + done);
		copy_fr_advance(fd_out, off_out, range.pos_out + done);
	}
	if (cloned)
		*cloned = copy_fr_shares(fd_out, range.pos_out, (size_t)done, flags);
	return done;
}

/*
 * Returns whether the kernel takes flags, after EINVAL of a flagged call. Remembers that it does not
 * for the process's lifetime: if a module is loaded later, flagged calls succeed and do not get here.
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

static inline int copy_fr_is_flag(unsigned int flags)
{
	return flags == COPY_FR_COPY || flags == COPY_FR_REFLINK || flags == COPY_FR_DEDUP;
}

/* Returns whether to use other calls after an error of the kernel's own. */
static inline int copy_fr_falls_back(int fd_in, int fd_out, unsigned int flags, int error)
{
	if (flags != 0 && !copy_fr_is_flag(flags))
		return 0;
	if (copy_fr_is_missing(error))
		return 1;
	if (flags == 0)
		return error == -EOPNOTSUPP;
	return error == -EINVAL && !copy_fr_kernel_takes_flags(fd_in, fd_out);
}

/**
 * copy_fr() - copy_file_range(2) with its flags, also where the kernel refuses them.
 * @fd_in: The source.
 * @off_in: The offset in the source, which advances by the bytes done; NULL for the file position.
 * @fd_out: The destination.
 * @off_out: The offset in the destination, likewise.
 * @len: The number of bytes.
 * @flags: 0, COPY_FR_COPY, COPY_FR_REFLINK or COPY_FR_DEDUP.
 * @cloned: Set to one of enum copy_fr_cloned on success, if not NULL. This reads the extents unless
 *          the flag is COPY_FR_COPY.
 *
 * Return: The number of bytes done; or -1, with errno set and no offset changed. Without a flag the
 * result is 0 at the end of the source, which may have become shorter: a loop must end there.
 */
static inline ssize_t copy_fr(int fd_in, off_t *off_in, int fd_out, off_t *off_out, size_t len,
			      unsigned int flags, int *cloned)
{
	ssize_t done = copy_fr_kernel(fd_in, off_in, fd_out, off_out, len, flags, cloned);
	int error = -errno;

	if (done != -1)
		return done;
	if (!copy_fr_falls_back(fd_in, fd_out, flags, error))
		return copy_fr_fail(error);
	return copy_fr_by_other_calls(fd_in, off_in, fd_out, off_out, len, flags, cloned);
}

/**
 * copy_fr_fallback() - As copy_fr(), but without the kernel's flags.
 *
 * Uses only calls that every kernel has, even if the kernel takes flags.
 */
static inline ssize_t copy_fr_fallback(int fd_in, off_t *off_in, int fd_out, off_t *off_out,
				       size_t len, unsigned int flags, int *cloned)
{
	if (!copy_fr_is_flag(flags))
		return copy_fr(fd_in, off_in, fd_out, off_out, len, flags, cloned);
	return copy_fr_by_other_calls(fd_in, off_in, fd_out, off_out, len, flags, cloned);
}

#endif
