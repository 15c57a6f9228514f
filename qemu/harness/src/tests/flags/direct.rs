// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Files opened with `O_DIRECT`, whose alignment rules are not those of the call.

use super::{apply, copy_all, flag_name, range, COPY, DEDUP, REFLINK};
use crate::case::{case, Case, Test};
use crate::extents::expect_nothing_shared;
use crate::failure::{expect_eq, Outcome};
use crate::pattern::{pattern, BLOCK, BLOCK64};

pub const CASES: &[Case] = &[
    case!(any_range_is_copied_between_direct_files),
    case!(a_long_copy_between_direct_files_is_whole),
    case!(direct_files_share).needs(&[crate::filesystem::Feature::Reflink]),
];

/// Neither, the source, the destination, both.
const SIDES: [(i32, i32); 4] = [
    (0, 0),
    (libc::O_DIRECT, 0),
    (0, libc::O_DIRECT),
    (libc::O_DIRECT, libc::O_DIRECT),
];

const SIZE: usize = 6 * BLOCK + 123;

fn any_range_is_copied_between_direct_files(t: &Test) -> Outcome {
    let data = pattern(1, SIZE);
    for (from_flags, to_flags) in SIDES {
        for place in [
            range(0, 0, SIZE),
            range(4 * BLOCK64, 6 * BLOCK64, SIZE - 4 * BLOCK),
            range(BLOCK64, 2 * BLOCK64, 3 * BLOCK),
            range(100, 7, 5000),
            range(SIZE as u64 - 1, 3, 1),
        ] {
            let source = t.create_with("source", &data)?;
            let mut model = pattern(2, 3 * BLOCK + 9);
            let to = t.create_with("to", &model)?;
            let from = source.reopen(libc::O_RDONLY | from_flags)?;
            let direct = to.reopen(libc::O_WRONLY | to_flags)?;
            copy_all(&from, &direct, place, COPY)?;
            apply(&mut model, &data, place, place.len);
            to.expect_contents(
                &model,
                &format!("{place:?} with {from_flags:#o} and {to_flags:#o}"),
            )?;
            if t.filesystem.can_share() {
                expect_nothing_shared(&source, &to)?;
            }
        }
    }
    Ok(())
}

fn a_long_copy_between_direct_files_is_whole(t: &Test) -> Outcome {
    // More than one step, and not a multiple of the buffer.
    let data = pattern(3, (17 << 20) + 5);
    let source = t.create_with("source", &data)?;
    let to = t.create("to")?;
    let from = source.reopen(libc::O_RDONLY | libc::O_DIRECT)?;
    let direct = to.reopen(libc::O_WRONLY | libc::O_DIRECT)?;
    copy_all(&from, &direct, range(0, 1, data.len()), COPY)?;
    expect_eq(to.size()?, data.len() as u64 + 1, "size of the copy")?;
    expect_eq(
        to.contents()?[1..] == data[..],
        true,
        "the copy has the source's bytes",
    )
}

fn direct_files_share(t: &Test) -> Outcome {
    let data = pattern(4, SIZE);
    for flags in [REFLINK, DEDUP] {
        let source = t.create_with("source", &data)?;
        let to = t.create_with("to", if flags == DEDUP { &data } else { &[] })?;
        let from = source.reopen(libc::O_RDONLY | libc::O_DIRECT)?;
        let direct = to.reopen(libc::O_WRONLY | libc::O_DIRECT)?;
        copy_all(&from, &direct, range(0, 0, SIZE), flags)?;
        to.expect_contents(&data, &flag_name(flags))?;
        crate::extents::expect_shared(&source, 0, &to, 0, SIZE.div_ceil(BLOCK))?;
    }
    Ok(())
}
