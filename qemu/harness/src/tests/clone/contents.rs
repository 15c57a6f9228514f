// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The contents of a clone, for all sorts of sources and destinations.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{CLONES, CLONES_COUNTED};
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::sys::{clone_file, clone_range, new_clone, set_times, timespec, unlink, File};

pub const CASES: &[Case] = &[
    case!(a_clone_has_the_bytes_of_its_source).needs(CLONES),
    case!(data_and_holes_are_found_right_after_a_clone).needs(CLONES),
    case!(dirty_data_is_in_the_clone).needs(CLONES),
    case!(a_shorter_destination_grows).needs(CLONES),
    case!(a_longer_destination_keeps_its_tail).needs(CLONES),
    case!(an_empty_source_clones_to_nothing).needs(CLONES),
    case!(holes_are_cloned_as_holes).needs(CLONES),
    case!(a_file_cloned_onto_itself_is_refused_or_harmless).needs(CLONES),
    case!(cloning_twice_is_harmless).needs(CLONES_COUNTED),
    case!(the_times_of_the_destination_change).needs(CLONES),
    case!(the_set_user_bit_of_the_destination_is_cleared).needs(CLONES),
    case!(a_deep_and_sparse_file_is_cloned).needs(CLONES),
    case!(cp_reflink_always_works).needs(CLONES),
];

fn a_clone_has_the_bytes_of_its_source(t: &Test) -> Outcome {
    for size in [1, 100, 4095, 4096, 4097, 65 * BLOCK + 1, 4096 * 66] {
        let data = pattern(1, size);
        let source = t.create_with("source", &data)?;
        let clone = new_clone(&source, t.path("clone"))?;
        clone.expect_contents(&data, &format!("a clone of {size} bytes"))?;
        source.expect_contents(&data, "the source")?;
        unlink(&clone.path).or_fail("unlink")?;
    }
    Ok(())
}

fn data_and_holes_are_found_right_after_a_clone(t: &Test) -> Outcome {
    for _ in 0..t.rounds(20) {
        let source = t.create("source")?;
        source.truncate(32 * BLOCK64)?;
        source.write_at(&blocks(12, 2), 4 * BLOCK64)?;
        source.write_at(b"x", 20 * BLOCK64 + 1)?;
        let clone = new_clone(&source, t.path("clone"))?;
        let ranges = clone.data_ranges()?;
        for block in [4, 5, 20] {
            let at = block * BLOCK64;
            expect(
                ranges.iter().any(|(start, end)| *start <= at && at < *end),
                format_args!("block {block} of the clone is data; SEEK_DATA finds {ranges:?}"),
            )?;
        }
        expect_eq(
            clone.seek(0, libc::SEEK_DATA).or_fail("SEEK_DATA")?,
            4 * BLOCK64,
            "first data",
        )?;
        clone.expect_contents(&source.contents()?, "the clone")?;
    }
    Ok(())
}

fn dirty_data_is_in_the_clone(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(13, 4))?;
    let map = Mapping::shared(&source, 4 * BLOCK)?;
    for i in 0..t.rounds(30) {
        source.write_at(&[i as u8], 10)?;
        map.store(2 * BLOCK, &[i as u8 ^ 0xff]);
        let clone = new_clone(&source, t.path("clone"))?;
        expect_eq(clone.read_at(10, 1)?, [i as u8], "a byte just written")?;
        expect_eq(
            clone.read_at(2 * BLOCK64, 1)?,
            [i as u8 ^ 0xff],
            "a byte just stored",
        )?;
    }
    Ok(())
}

fn a_shorter_destination_grows(t: &Test) -> Outcome {
    let data = pattern(14, 3 * BLOCK + 9);
    let source = t.create_with("source", &data)?;
    for old in [1, 4096, 3 * BLOCK + 8] {
        let to = t.create_with("to", &pattern(15, old))?;
        clone_file(&source, &to).or_fail("FICLONE")?;
        to.expect_contents(&data, &format!("cloned onto {old} bytes"))?;
    }
    Ok(())
}

fn a_longer_destination_keeps_its_tail(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(16, 3))?;
    let mut model = blocks(17, 5);
    let to = t.create_with("to", &model)?;
    clone_file(&source, &to).or_fail("FICLONE onto a longer file")?;
    model[..3 * BLOCK].copy_from_slice(&blocks(16, 3));
    to.expect_contents(&model, "a longer destination")?;
    // Without the partial last block, which must not get into the middle.
    let partial = t.create_with("partial", &pattern(18, BLOCK + 1))?;
    expect_errno(
        clone_file(&partial, &to),
        libc::EINVAL,
        "FICLONE of a partial block onto it",
    )?;
    to.expect_contents(&model, "after the refusal")
}

fn an_empty_source_clones_to_nothing(t: &Test) -> Outcome {
    let empty = t.create("empty")?;
    let to = t.create_with("to", b"kept")?;
    clone_file(&empty, &to).or_fail("FICLONE of an empty file")?;
    to.expect_contents(b"kept", "after an empty file was cloned onto it")
}

fn holes_are_cloned_as_holes(t: &Test) -> Outcome {
    let source = t.create("source")?;
    source.truncate(16 * BLOCK64)?;
    source.write_at(&blocks(19, 1), 8 * BLOCK64)?;
    let to = t.create_with("to", &blocks(20, 16))?;
    clone_file(&source, &to).or_fail("FICLONE")?;
    to.expect_contents(&source.contents()?, "a clone with holes")?;
    expect_eq(
        to.data_ranges()?,
        [(8 * BLOCK64, 9 * BLOCK64)],
        "data of the clone",
    )?;
    to.write_at(b"x", 0)?;
    expect_eq(
        source.read_at(0, 1)?,
        [0],
        "the hole in the source after a write to the clone",
    )
}

fn a_file_cloned_onto_itself_is_refused_or_harmless(t: &Test) -> Outcome {
    let data = blocks(21, 2);
    let file = t.create_with("file", &data)?;
    expect_errno(
        clone_file(&file, &file),
        libc::EINVAL,
        "FICLONE onto itself",
    )?;
    let same = clone_range(&file, 0, BLOCK64, &file, 0);
    expect_errno(same, libc::EINVAL, "FICLONERANGE onto the same range")?;
    file.expect_contents(&data, "after cloning onto itself")
}

fn cloning_twice_is_harmless(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let source = fs.create_with("source", &blocks(22, 100))?;
    let to = fs.create_with("to", &blocks(23, 100))?;
    let before = fs.used()?;
    for _ in 0..3 {
        clone_file(&source, &to).or_fail("FICLONE")?;
        expect_eq(
            fs.used()?,
            before - 100,
            "blocks used after a clone onto other data",
        )?;
    }
    clone_file(&to, &source).or_fail("FICLONE back")?;
    expect_eq(fs.used()?, before - 100, "blocks used after cloning back")?;
    source.expect_contents(&blocks(22, 100), "the source")
}

fn the_times_of_the_destination_change(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(47, 2))?;
    let to = t.create("to")?;
    let old = timespec(1_000_000_000, 0);
    for path in [&source.path, &to.path] {
        set_times(path, [old, old]).or_fail("utimensat")?;
    }
    let before = (source.times()?, to.times()?);
    crate::sys::wait_for_the_clock();
    clone_file(&source, &to).or_fail("FICLONE")?;
    let after = to.times()?;
    expect(
        after.modified > before.1.modified,
        "mtime of the destination is new",
    )?;
    expect(
        after.changed > before.1.changed,
        "ctime of the destination is new",
    )?;
    let source_after = source.times()?;
    expect_eq(
        source_after.modified,
        before.0.modified,
        "mtime of the source",
    )?;
    expect_eq(
        source_after.changed,
        before.0.changed,
        "ctime of the source",
    )
}

fn the_set_user_bit_of_the_destination_is_cleared(t: &Test) -> Outcome {
    crate::sys::chmod(&t.dir, 0o777).or_fail("chmod")?;
    t.create_with("source", &blocks(48, 1))?;
    crate::process::as_user(1000, 1000, || {
        let source = File::open(t.path("source"), libc::O_RDONLY).or_fail("open")?;
        let to = t.create("to")?;
        crate::sys::chmod(&to.path, 0o6755).or_fail("chmod")?;
        clone_file(&source, &to).or_fail("FICLONE")?;
        expect_eq(
            to.stat()?.st_mode & 0o7777,
            0o755,
            "mode after a clone by its owner",
        )
    })
}

fn a_deep_and_sparse_file_is_cloned(t: &Test) -> Outcome {
    let source = t.create("source")?;
    let places: Vec<u64> = (12..43).step_by(3).map(|bit| 1u64 << bit).collect();
    for &at in &places {
        source.write_at(&at.to_le_bytes(), at)?;
    }
    let clone = new_clone(&source, t.path("clone"))?;
    let range = t.create("range")?;
    clone_range(&source, 0, 1 << 42, &range, 1 << 20).or_fail("FICLONERANGE of 4 TiB")?;
    for &at in &places {
        source.write_at(b"changed!", at)?;
        expect_eq(
            clone.read_at(at, 8)?,
            at.to_le_bytes(),
            format_args!("the clone at {at}"),
        )?;
        if at < 1 << 42 {
            let seen = range.read_at(at + (1 << 20), 8)?;
            expect_eq(
                seen,
                at.to_le_bytes(),
                format_args!("the cloned range at {at}"),
            )?;
        }
    }
    expect_eq(clone.size()?, source.size()?, "size of the clone")
}

fn cp_reflink_always_works(t: &Test) -> Outcome {
    use crate::process::{run_program, End};
    let data = pattern(59, 100_000);
    let source = t.create_with("source", &data)?;
    let to = t.path("to");
    let arguments = [
        "--reflink=always",
        &source.path.to_string_lossy(),
        &to.to_string_lossy(),
    ];
    let (end, said) = run_program("/bin/cp".as_ref(), &arguments)?;
    expect_eq(
        end,
        End::Exited(0),
        format_args!("cp --reflink=always: {said}"),
    )?;
    let copy = File::open(&to, libc::O_RDONLY).or_fail("open")?;
    copy.expect_contents(&data, "cp --reflink=always")
}
