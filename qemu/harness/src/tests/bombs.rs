// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Each system call, by an unprivileged user, on files of 2^62 bytes made of one or two blocks: the
//! call ends when it is killed, and other processes that use the same files, freeze the filesystem
//! or unmount it do not wait for it.

use crate::case::Case;
use crate::torture::bomb::Shape;
use crate::torture::calls::{asking, data, flags, maps, ranges, sharing};
use crate::torture::expect_bounded;

/// Makes a test of each call on each kind of file.
macro_rules! on_all_bombs {
    ($($part:ident { $($call:ident),+ $(,)? })+) => {
        pub const CASES: &[Case] = &[
            $($(
                on_all_bombs!(@case $part $call, "_of_holes", Holes),
                on_all_bombs!(@case $part $call, "_of_data", Data),
                on_all_bombs!(@case $part $call, "_of_unwritten", Unwritten),
                on_all_bombs!(@case $part $call, "_of_mixed", Mixed),
                on_all_bombs!(@case $part $call, "_of_leaves", Leaves),
                on_all_bombs!(@case $part $call, "_of_shifted", Shifted),
            )+)+
        ];
    };
    (@case $part:ident $call:ident, $of:literal, $shape:ident) => {
        Case::new(concat!(stringify!($call), $of), |t| {
            expect_bounded(t, Shape::$shape, $part::$call)
        })
        .needs($part::NEEDS)
    };
}

on_all_bombs! {
    asking {
        seek_data, seek_hole, seek_end, fiemap_counting, fiemap_one, fiemap_many, fsync,
        sync_file_range, posix_fadvise, readahead, cachestat, locks, statx,
    }
    data {
        read, preadv2, preadv2_nowait, write, pwritev2, splice_to_a_pipe, splice_from_a_pipe,
        sendfile_to_nowhere, sendfile_to_a_file,
    }
    ranges {
        allocate, allocate_keeping_the_size, punch, zero, zero_keeping_the_size, unshare, collapse,
        collapse_a_block, insert, insert_a_block, write_zeroes, truncate,
    }
    sharing {
        copy_aligned, copy_a_block_later, copy_a_byte_later, ficlone, ficlonerange,
        ficlonerange_a_block_later, ficlonerange_onto_itself, fideduperange, fideduperange_of_many,
    }
    flags {
        flag_copy, flag_reflink, flag_reflink_a_block_later, flag_dedup,
    }
    maps {
        touch_shared, touch_private, populate, madvise_populate_read, madvise_populate_write,
        madvise_remove, madvise_others, msync, mincore, mlock,
    }
}
