// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Makes one call of copy_file_range(2) as a 32-bit program of x86 or arm, with its arguments.
 * Built without a C library, as the toolchain has none for 32 bits.
 *
 *   copy_file_range32 SOURCE DESTINATION OFF_IN OFF_OUT LEN FLAGS
 *
 * An offset is `off:N`, a pointer to N, or `pos:N`, NULL and the position N.
 * Prints the result of the call, a negative errno if it failed, and then the
 * offset and the position of the source and of the destination.
 */

#define O_RDONLY 0
#define O_RDWR 2
#define O_CREAT 0100
#define SEEK_SET 0
#define SEEK_CUR 1

#define NR_exit 1
#define NR_write 4
#define NR_open 5
#define NR_llseek 140

/* The exit status for wrong arguments. */
#define USAGE 64

#ifdef __arm__
#define O_LARGEFILE 0400000
#define NR_copy_file_range 391

static long call6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r7 __asm__("r7") = nr;
	register long r0 __asm__("r0") = a;
	register long r1 __asm__("r1") = b;
	register long r2 __asm__("r2") = c;
	register long r3 __asm__("r3") = d;
	register long r4 __asm__("r4") = e;
	register long r5 __asm__("r5") = f;

	__asm__ volatile("svc #0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory");
	return r0;
}

void _start(void);
__asm__(".globl _start\n"
	"_start:\n\t"
	"mov r0, sp\n\t"
	"bic sp, sp, #7\n\t"
	"bl start\n");
#else
#define O_LARGEFILE 0100000
#define NR_copy_file_range 377

static long call6(long nr, long a, long b, long c, long d, long e, long f)
{
	long result;
	long arguments[2] = { a, f };

	/* ebp is the frame's, and with all six registers taken, so is memory. */
	__asm__ volatile("pushl %%ebp\n\t"
			 "pushl %%ebx\n\t"
			 "movl 4(%%ebx), %%ebp\n\t"
			 "movl (%%ebx), %%ebx\n\t"
			 "int $0x80\n\t"
			 "popl %%ebx\n\t"
			 "popl %%ebp"
			 : "=a"(result)
			 : "a"(nr), "b"(arguments), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory");
	return result;
}

void _start(void);
__asm__(".globl _start\n"
	"_start:\n\t"
	"xorl %ebp, %ebp\n\t"
	"movl %esp, %eax\n\t"
	"andl $-16, %esp\n\t"
	"subl $12, %esp\n\t"
	"pushl %eax\n\t"
	"call start\n");
#endif

static void quit(int status)
{
	for (;;)
		call6(NR_exit, status, 0, 0, 0, 0, 0);
}

static long long seek(int fd, long long offset, int whence)
{
	long long at = -1;

	if (call6(NR_llseek, fd, offset >> 32, (long)offset, (long)&at, whence, 0) < 0)
		quit(USAGE);
	return at;
}

static unsigned long long number(const char *text)
{
	unsigned long long value = 0;

	if (!*text)
		quit(USAGE);
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			quit(USAGE);
		/* Times ten, without the function for 64 bits of a compiler's library. */
		value = (value << 3) + (value << 1) + (*text - '0');
	}
	return value;
}

static void print(long long value, char end)
{
	unsigned long long left = value < 0 ? 0 - (unsigned long long)value : (unsigned long long)value;
	char text[24];
	int at = sizeof(text);

	text[--at] = end;
	do {
		unsigned int remainder = 0, bit;

		/* Divides by ten, without the function for 64 bits of a compiler's library. */
		for (bit = 0; bit < 64; bit++) {
			remainder = remainder << 1 | left >> 63;
			left <<= 1;
			if (remainder >= 10) {
				remainder -= 10;
				left |= 1;
			}
		}
		text[--at] = '0' + remainder;
	} while (left);
	if (value < 0)
		text[--at] = '-';
	call6(NR_write, 1, (long)(text + at), sizeof(text) - at, 0, 0, 0);
}

struct side {
	int fd;
	long long offset;
	long long *pointer;
};

static void open_side(struct side *side, const char *path, int flags, const char *offset)
{
	int given = offset[0] == 'o';

	side->fd = call6(NR_open, (long)path, flags | O_LARGEFILE, 0644, 0, 0, 0);
	if (side->fd < 0)
		quit(USAGE);
	side->offset = number(offset + 4);
	side->pointer = given ? &side->offset : 0;
	if (!given)
		seek(side->fd, side->offset, SEEK_SET);
}

void start(long *stack);

void start(long *stack)
{
	long count = stack[0];
	char **words = (char **)(stack + 1);
	struct side in, out;
	long result;

	if (count != 7)
		quit(USAGE);
	open_side(&in, words[1], O_RDONLY, words[3]);
	open_side(&out, words[2], O_RDWR | O_CREAT, words[4]);
	result = call6(NR_copy_file_range, in.fd, (long)in.pointer, out.fd, (long)out.pointer,
		       number(words[5]), number(words[6]));
	print(result, ' ');
	print(in.offset, ' ');
	print(seek(in.fd, 0, SEEK_CUR), ' ');
	print(out.offset, ' ');
	print(seek(out.fd, 0, SEEK_CUR), '\n');
	quit(0);
}
