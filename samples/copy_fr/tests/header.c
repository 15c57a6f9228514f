// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Tests of copy_fr.h, in C and in C++: header.rs builds and runs them in a new directory.
 *
 * The header comes after another one and without _GNU_SOURCE (which C++ has anyway), and must not
 * bring names of the kernel's headers.
 */
#include <stdio.h>

#include "copy_fr.h"

#if defined(BLOCK_SIZE) || defined(FICLONE) || defined(FIEMAP_EXTENT_LAST) || defined(SEEK_MAX)
#error "copy_fr.h brings names of the kernel's headers"
#endif

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define expect(condition) expect_at(condition, #condition, __LINE__)

static void expect_at(int condition, const char *text, int line)
{
	if (condition)
		return;
	printf("line %d: false: %s (errno: %s)\n", line, text, strerror(errno));
	exit(1);
}

typedef ssize_t (*call_t)(int, off_t *, int, off_t *, size_t, unsigned int, int *);

static ssize_t by_kernel_first(int in, off_t *off_in, int out, off_t *off_out, size_t len,
			       unsigned int flags, int *cloned)
{
	return copy_fr(in, off_in, out, off_out, len, flags, cloned);
}

static ssize_t without_flags(int in, off_t *off_in, int out, off_t *off_out, size_t len,
			     unsigned int flags, int *cloned)
{
	return copy_fr_fallback(in, off_in, out, off_out, len, flags, cloned);
}

static const call_t calls[] = { by_kernel_first, without_flags };
static const unsigned int modes[] = { 0, COPY_FR_COPY, COPY_FR_REFLINK, COPY_FR_DEDUP };

enum { BLOCK = 4096, SIZE = 5 * BLOCK };

static int create(const char *name, const char *bytes, size_t len)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);

	expect(fd != -1 && (!len || write(fd, bytes, len) == (ssize_t)len));
	return fd;
}

/* Whether this process holds a lock on the file, as another one sees it. */
static int is_locked(int fd)
{
	struct flock lock;
	int status;
	pid_t child = fork();

	memset(&lock, 0, sizeof(lock));
	if (child == 0) {
		lock.l_type = F_WRLCK;
		_exit(fcntl(fd, F_GETLK, &lock) == -1 ? 2 : lock.l_type != F_UNLCK);
	}
	expect(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) < 2);
	return WEXITSTATUS(status);
}

static int lock(const char *name)
{
	int fd = open(name, O_RDWR);
	struct flock all;

	memset(&all, 0, sizeof(all));
	all.l_type = F_WRLCK;
	expect(fd != -1 && fcntl(fd, F_SETLK, &all) == 0 && is_locked(fd));
	return fd;
}

static void locks_survive(void)
{
	/* Where O_DIRECT is not to be had, as on old tmpfs, the file is opened without. */
	static const int flags_in[] = { O_RDONLY, O_RDWR, O_RDONLY | COPY_FR_O_DIRECT };
	static const int flags_out[] = { O_WRONLY, O_RDWR, O_WRONLY | COPY_FR_O_DIRECT,
					 O_WRONLY | O_APPEND };
	char bytes[SIZE];

	memset(bytes, 'x', sizeof(bytes));
	close(create("in", bytes, sizeof(bytes)));
	close(create("out", bytes, sizeof(bytes)));
	int held_in = lock("in"), held_out = lock("out");

	for (size_t i = 0; i < sizeof(flags_in) / sizeof(*flags_in); i++) {
		for (size_t o = 0; o < sizeof(flags_out) / sizeof(*flags_out); o++) {
			/* These are closed when nothing is locked any more: that, too, unlocks. */
			int in = open("in", flags_in[i]), out = open("out", flags_out[o]);

			if (in == -1 || out == -1) {
				expect(errno == EINVAL);
				continue;
			}
			for (size_t m = 0; m < 8; m++) {
				off_t pos_in = 0, pos_out = 0;
				int cloned;

				calls[m / 4](in, &pos_in, out, &pos_out, SIZE, modes[m % 4], &cloned);
				pos_in = pos_out = 1;
				calls[m / 4](in, &pos_in, out, &pos_out, 100, modes[m % 4], NULL);
				expect(is_locked(held_in) && is_locked(held_out));
			}
		}
	}
}

static void what_is_copied_is_the_same(void)
{
	char bytes[SIZE + 100], seen[SIZE + 100];
	int cloned = -1;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i / 7);
	for (size_t m = 0; m < 4; m++) {
		int in = create("in", bytes, sizeof(bytes)), out = create("out", NULL, 0);

		lseek(in, 0, SEEK_SET);
		expect(calls[m / 2](in, NULL, out, NULL, sizeof(bytes), modes[m % 2], &cloned) ==
		       sizeof(bytes));
		expect(pread(out, seen, sizeof(seen), 0) == sizeof(seen));
		expect(memcmp(bytes, seen, sizeof(seen)) == 0);
		expect(cloned >= COPY_FR_CLONED_NO && cloned <= COPY_FR_CLONED_UNKNOWN);
		expect(modes[m % 2] == 0 || cloned == COPY_FR_CLONED_NO);
		/* At the end: nothing without a flag, an error with one; no file to be told of. */
		expect(calls[m / 2](in, NULL, out, NULL, 1, modes[m % 2], NULL) ==
		       (modes[m % 2] ? -1 : 0));
		expect(modes[m % 2] == 0 || errno == EINVAL);
		close(in);
		close(out);
	}
	expect(copy_fr(-1, NULL, -1, NULL, 1, COPY_FR_COPY, NULL) == -1 && errno == EBADF);
	expect(copy_fr(-1, NULL, -1, NULL, 1, 3, NULL) == -1);
}

static void holes_stay_holes(void)
{
	const off_t size = 12 << 20;
	int in = create("in", NULL, 0), out;
	struct stat st;

	expect(ftruncate(in, size) == 0);
	expect(pwrite(in, "data", 4, 0) == 4 && pwrite(in, "more", 4, 6 << 20) == 4);
	expect(fstat(in, &st) == 0);
	if (st.st_blocks >= size / 512)
		return;
	for (int old = 0; old < 2; old++) {
		off_t pos_in = 0, pos_out = 0;
		char *bytes = (char *)malloc((size_t)size), *seen = (char *)malloc((size_t)size);

		memset(bytes, 'x', (size_t)size);
		out = create("out", bytes, old ? (size_t)size : 0);
		expect(lseek(in, 77, SEEK_SET) == 77);
		expect(copy_fr_fallback(in, &pos_in, out, &pos_out, (size_t)size, COPY_FR_COPY,
					NULL) == size);
		expect(pos_in == size && pos_out == size && lseek(in, 0, SEEK_CUR) == 77);
		expect(pread(in, bytes, (size_t)size, 0) == size &&
		       pread(out, seen, (size_t)size, 0) == size);
		expect(memcmp(bytes, seen, (size_t)size) == 0);
		expect(fstat(out, &st) == 0 && st.st_size == size && st.st_blocks < size / 512);
		close(out);
		free(bytes);
		free(seen);
	}
	close(in);
}

/* Where the system call is refused, as a filter of seccomp does it. */
static void without_the_call(unsigned int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_copy_file_range, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(*filter), filter };
	pid_t child = fork();
	int status;

	if (child == 0) {
		expect(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
		expect(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
		expect(copy_fr_syscall(-1, NULL, -1, NULL, 0, 0) == -1 && errno == (int)error);
		what_is_copied_is_the_same();
		holes_stay_holes();
		exit(0);
	}
	expect(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
	what_is_copied_is_the_same();
	holes_stay_holes();
	without_the_call(EPERM);
	without_the_call(ENOSYS);
	locks_survive();
	return 0;
}
