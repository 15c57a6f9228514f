// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Holes, and how lseek finds them.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{Btrfs, Feature, Xfs};
use crate::pattern::{blocks, pattern, Random, BLOCK, BLOCK64};

pub const CASES: &[Case] = &[
    case!(a_hole_reads_as_zeros_and_takes_no_blocks),
    case!(a_write_into_a_hole_leaves_zeros_around_it),
    case!(a_gap_behind_the_end_reads_as_zeros),
    case!(st_blocks_counts_the_blocks_at_once).needs(&[Feature::ExactBlocks]),
    case!(seek_moves_as_asked_and_refuses_what_it_must),
    case!(seek_data_and_seek_hole_find_the_edges).except(Xfs, "preallocates behind appended data"),
    case!(seek_data_and_seek_hole_right_after_writing_never_hide_data),
    case!(seek_hole_at_the_end_and_enxio_behind_it),
    case!(seek_data_and_seek_hole_before_the_start_are_enxio)
        .except(Btrfs, "takes negative offsets for 0"),
];

fn a_hole_reads_as_zeros_and_takes_no_blocks(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(1 << 20)?;
    expect(
        file.data_blocks()? == 0,
        "a file of 1 MiB that is all hole has no blocks",
    )?;
    let contents = file.contents()?;
    expect(
        contents.len() == 1 << 20 && contents.iter().all(|&b| b == 0),
        "it reads as zeros",
    )?;
    expect_eq(file.data_blocks()?, 0, "blocks after reading the hole")
}

fn a_write_into_a_hole_leaves_zeros_around_it(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(5 * BLOCK64)?;
    let mut model = vec![0; 5 * BLOCK];
    file.write_at(b"middle", 2 * BLOCK64 + 1000)?;
    model[2 * BLOCK + 1000..][..6].copy_from_slice(b"middle");
    file.expect_contents(&model, "after a write into a hole")?;
    file.write_at(b"edge", BLOCK64 - 2)?;
    model[BLOCK - 2..][..4].copy_from_slice(b"edge");
    file.expect_contents(&model, "after a write across two holes")
}

fn a_gap_behind_the_end_reads_as_zeros(t: &Test) -> Outcome {
    let file = t.create_with("file", b"start")?;
    let mut model = b"start".to_vec();
    for at in [100, 4096, 10_000, 40_960] {
        file.write_at(b"x", at)?;
        model.resize(at as usize, 0);
        model.push(b'x');
        file.expect_contents(&model, &format!("after a write at {at}"))?;
    }
    Ok(())
}

fn st_blocks_counts_the_blocks_at_once(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let mut expected = 0;
    for (offset, len, more) in [(0, 1, 1), (1, 4095, 0), (4096, 8192, 2), (1 << 30, 4097, 2)] {
        file.write_at(&pattern(6, len), offset)?;
        expected += more;
        let what = format!("blocks after writing {len} bytes at {offset}");
        expect_eq(file.data_blocks()?, expected, what)?;
    }
    file.truncate(4097)?;
    expect_eq(
        file.data_blocks()?,
        2,
        "blocks after truncation to 4097 bytes",
    )?;
    file.truncate(0)?;
    expect_eq(file.data_blocks()?, 0, "blocks after truncation to nothing")
}

fn seek_moves_as_asked_and_refuses_what_it_must(t: &Test) -> Outcome {
    let file = t.create_with("file", &pattern(1, 5000))?;
    let seek = |offset, whence| file.seek(offset, whence).or_fail("lseek");
    expect_eq(seek(100, libc::SEEK_SET)?, 100, "SEEK_SET")?;
    expect_eq(seek(-50, libc::SEEK_CUR)?, 50, "SEEK_CUR")?;
    expect_eq(seek(0, libc::SEEK_END)?, 5000, "SEEK_END")?;
    expect_eq(
        seek(-5000, libc::SEEK_END)?,
        0,
        "SEEK_END back to the start",
    )?;
    expect_eq(
        seek(1 << 40, libc::SEEK_SET)?,
        1 << 40,
        "SEEK_SET far behind the end",
    )?;
    expect_eq(file.size()?, 5000, "size after seeking behind the end")?;
    expect_eq(seek(7, libc::SEEK_SET)?, 7, "SEEK_SET")?;
    expect_errno(
        file.seek(-8, libc::SEEK_CUR),
        libc::EINVAL,
        "before the start",
    )?;
    expect_errno(
        file.seek(i64::MAX, libc::SEEK_CUR),
        libc::EOVERFLOW,
        "behind the largest offset",
    )
    .or_else(|_| {
        expect_errno(
            file.seek(i64::MAX, libc::SEEK_CUR),
            libc::EINVAL,
            "behind the largest offset",
        )
    })?;
    expect_eq(file.position()?, 7, "position after refused seeks")
}

fn seek_data_and_seek_hole_find_the_edges(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(20 * BLOCK64)?;
    for block in [2, 3, 7, 19] {
        file.write_at(&blocks(1, 1), block * BLOCK64)?;
    }
    let edge = |n: u64| n * BLOCK64;
    let expected = [(edge(2), edge(4)), (edge(7), edge(8)), (edge(19), edge(20))];
    expect_eq(file.data_ranges()?, expected, "data")?;
    let seek = |at, whence| file.seek(at as i64, whence).or_fail("lseek");
    expect_eq(
        seek(edge(2) + 5, libc::SEEK_DATA)?,
        edge(2) + 5,
        "SEEK_DATA inside data",
    )?;
    expect_eq(
        seek(edge(5) + 5, libc::SEEK_DATA)?,
        edge(7),
        "SEEK_DATA inside a hole",
    )?;
    expect_eq(
        seek(edge(5) + 5, libc::SEEK_HOLE)?,
        edge(5) + 5,
        "SEEK_HOLE inside a hole",
    )?;
    expect_eq(
        seek(edge(2) + 5, libc::SEEK_HOLE)?,
        edge(4),
        "SEEK_HOLE inside data",
    )?;
    expect_eq(
        file.position()?,
        edge(4),
        "the position is what SEEK_HOLE found",
    )?;
    file.truncate(edge(19) + 1)?;
    expect_eq(
        seek(edge(19), libc::SEEK_HOLE)?,
        edge(19) + 1,
        "SEEK_HOLE in the last block",
    )
}

fn seek_data_and_seek_hole_right_after_writing_never_hide_data(t: &Test) -> Outcome {
    let mut random = Random::new(t.settings.seed);
    let file = t.create("file")?;
    file.truncate(256 * BLOCK64)?;
    for _ in 0..t.rounds(100) {
        let at = random.below(255 * BLOCK) as u64;
        file.write_at(b"here", at)?;
        let found = file.seek(at as i64, libc::SEEK_DATA).or_fail("SEEK_DATA")?;
        expect_eq(
            found,
            at,
            format_args!("SEEK_DATA at {at}, which was just written"),
        )?;
    }
    Ok(())
}

fn seek_hole_at_the_end_and_enxio_behind_it(t: &Test) -> Outcome {
    let file = t.create("file")?;
    expect_errno(
        file.seek(0, libc::SEEK_DATA),
        libc::ENXIO,
        "SEEK_DATA in an empty file",
    )?;
    expect_errno(
        file.seek(0, libc::SEEK_HOLE),
        libc::ENXIO,
        "SEEK_HOLE in an empty file",
    )?;
    file.write_at(&pattern(1, 5000), 0)?;
    expect_eq(
        file.seek(0, libc::SEEK_HOLE).or_fail("SEEK_HOLE")?,
        5000,
        "the hole at the end",
    )?;
    for at in [5000, 5001, 1 << 40] {
        expect_errno(
            file.seek(at, libc::SEEK_DATA),
            libc::ENXIO,
            format_args!("SEEK_DATA at {at}"),
        )?;
        expect_errno(
            file.seek(at, libc::SEEK_HOLE),
            libc::ENXIO,
            format_args!("SEEK_HOLE at {at}"),
        )?;
    }
    file.truncate(0)?;
    file.truncate(5000)?;
    expect_errno(
        file.seek(0, libc::SEEK_DATA),
        libc::ENXIO,
        "SEEK_DATA where all is hole",
    )?;
    expect_eq(
        file.seek(10, libc::SEEK_HOLE).or_fail("SEEK_HOLE")?,
        10,
        "all is hole",
    )
}

fn seek_data_and_seek_hole_before_the_start_are_enxio(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    expect_errno(
        file.seek(-1, libc::SEEK_DATA),
        libc::ENXIO,
        "SEEK_DATA at -1",
    )?;
    expect_errno(
        file.seek(-1, libc::SEEK_HOLE),
        libc::ENXIO,
        "SEEK_HOLE at -1",
    )
}
