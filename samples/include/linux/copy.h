/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The flags of copy_file_range(2). At most one may be given.
 *
 * A kernel without them refuses every flag with EINVAL; with copy_fr.ko it accepts these. With 0,
 * which works everywhere, the filesystem chooses.
 */
#ifndef _LINUX_COPY_H
#define _LINUX_COPY_H

#define COPY_FR_COPY	(1 << 0)	/* copy the bytes, share nothing */
#define COPY_FR_REFLINK	(1 << 1)	/* share the blocks, or fail */
#define COPY_FR_DEDUP	(1 << 2)	/* share the blocks if the bytes are equal, or fail */

#endif
