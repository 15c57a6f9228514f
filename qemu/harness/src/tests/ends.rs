// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The ends of ranges and files: holes, bytes stored behind them, failed writes.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, expect_errno, Context, Errno, Outcome};
use crate::filesystem::{Tmpfs, CLONES};
use crate::mapping::{Mapping, READ};
use crate::pattern::{blocks, BLOCK};
use crate::sys::{clone_range, copy_loop, copy_once, pipe, pwrite_from, File};
use crate::tests::splice::splice;

pub const CASES: &[Case] = &[
    case!(holes_anywhere_in_a_range_are_cloned_over_data).needs(CLONES),
    case!(holes_anywhere_in_a_range_are_copied_over_data),
    case!(bytes_stored_behind_the_end_stay_hidden_when_the_file_grows)
        .except(Tmpfs, "does not wipe the last page when the file grows"),
    case!(bytes_stored_behind_the_end_stay_hidden_after_a_clone_behind_it).needs(CLONES),
    case!(a_write_of_nothing_readable_does_not_move_the_end)
        .except(Tmpfs, "moves the end up to the offset of such a write"),
    case!(a_write_of_partly_readable_memory_ends_where_that_ends),
];

/// The number of blocks of the sources.
const COUNT: usize = 3;

/// For each distribution of data and holes: shares or copies the whole source onto data.
fn expect_holes_to_arrive(t: &Test, call: impl Fn(&File, &File) -> Outcome) -> Outcome {
    for data in 0..1 << COUNT {
        let source = t.create("source")?;
        let mut model = blocks(9, COUNT + 1);
        let to = t.create_with("to", &model)?;
        for block in 0..COUNT {
            let at = block * BLOCK;
            model[at..at + BLOCK].fill(0);
            if data & (1 << block) != 0 {
                let bytes = blocks(block as u8, 1);
                source.write_at(&bytes, at as u64)?;
                model[at..at + BLOCK].copy_from_slice(&bytes);
            }
        }
        source.truncate((COUNT * BLOCK) as u64)?;
        let map = Mapping::shared_read(&to, COUNT * BLOCK)?;
        map.load_all();
        call(&source, &to)?;
        let what = format!("data (bit set) and holes: {data:03b}");
        to.expect_contents(&model, &what)?;
        expect_bytes(
            &map.load_all(),
            &model[..COUNT * BLOCK],
            format_args!("mapped, {what}"),
        )?;
        source.expect_contents(&model[..COUNT * BLOCK], &what)?;
    }
    Ok(())
}

fn holes_anywhere_in_a_range_are_cloned_over_data(t: &Test) -> Outcome {
    expect_holes_to_arrive(t, |source, to| {
        let len = (COUNT * BLOCK) as u64;
        clone_range(source, 0, len, to, 0).or_fail("FICLONERANGE")
    })?;
    expect_holes_to_arrive(t, |source, to| {
        clone_range(source, 0, 0, to, 0).or_fail("FICLONERANGE to the end")
    })
}

fn holes_anywhere_in_a_range_are_copied_over_data(t: &Test) -> Outcome {
    expect_holes_to_arrive(t, |source, to| {
        let copied = copy_loop(source, 0, to, 0, COUNT * BLOCK)?;
        expect_eq(copied, COUNT * BLOCK, "bytes copied")
    })?;
    // Unaligned at both ends.
    expect_holes_to_arrive(t, |source, to| {
        for (at, len) in [
            (0, 100),
            (100, COUNT * BLOCK - 200),
            (COUNT * BLOCK - 100, 100),
        ] {
            let copied = copy_loop(source, at as u64, to, at as u64, len)?;
            expect_eq(copied, len, "bytes copied")?;
        }
        Ok(())
    })
}

const OLD_END: usize = 100;

/// Has the file forget that it is mapped for writing, and gives the references to its first block
/// away, as any reader may.
fn sync_and_splice(file: &File) -> Outcome {
    let reader = file.reopen(libc::O_RDONLY)?;
    reader.sync()?;
    let (_output, input) = pipe()?;
    let n = splice(&reader, Some(&mut 0), &input, None, OLD_END).or_fail("splice")?;
    expect_eq(n, OLD_END, "bytes in the pipe")
}

/// Stores behind the end of a file, grows it, and expects none of the stored bytes.
fn expect_hidden(
    t: &Test,
    what: &str,
    grow: impl Fn(&File) -> Outcome<(usize, Vec<u8>)>,
) -> Outcome {
    for (still_mapped, spliced) in [(true, false), (true, true), (false, false), (false, true)] {
        let what = &format!("{what} (mapped: {still_mapped}, spliced: {spliced})");
        let mut model = vec![b'd'; OLD_END];
        let file = t.create_with("file", &model)?;
        let map = Mapping::shared(&file, BLOCK)?;
        map.store(OLD_END, &vec![b'G'; BLOCK - OLD_END]);
        let map = still_mapped.then_some(map);
        if spliced {
            sync_and_splice(&file)?;
        }
        let (at, bytes) = grow(&file).or_fail(what)?;
        model.resize(at, 0);
        model.extend(bytes);
        file.expect_contents(&model, what)?;
        if let Some(map) = map {
            let len = BLOCK.min(model.len());
            expect_bytes(
                &map.load(0, len),
                &model[..len],
                format_args!("in the mapping: {what}"),
            )?;
        }
    }
    Ok(())
}

fn bytes_stored_behind_the_end_stay_hidden_when_the_file_grows(t: &Test) -> Outcome {
    let source = t.create_with("source", &[b's'; BLOCK])?;
    for end in [OLD_END + 1, 500, BLOCK, BLOCK + 1, 3 * BLOCK] {
        expect_hidden(t, &format!("truncated up to {end}"), |file| {
            file.truncate(end as u64)?;
            Ok((end, Vec::new()))
        })?;
    }
    for at in [OLD_END + 1, 500, BLOCK - 1, BLOCK, 2 * BLOCK, 2 * BLOCK + 5] {
        expect_hidden(t, &format!("written at {at}"), |file| {
            file.write_at(b"new", at as u64)?;
            Ok((at, b"new".to_vec()))
        })?;
        for len in [3, BLOCK] {
            expect_hidden(t, &format!("{len} bytes copied to {at}"), |file| {
                let n = copy_once(&source, 0, file, at as u64, len).or_fail("copy_file_range")?;
                expect_eq(n, len, "bytes copied")?;
                Ok((at, vec![b's'; len]))
            })?;
        }
    }
    Ok(())
}

fn bytes_stored_behind_the_end_stay_hidden_after_a_clone_behind_it(t: &Test) -> Outcome {
    for len in [BLOCK, 100] {
        let source = t.create_with("source", &vec![b's'; len])?;
        for at in [BLOCK, 2 * BLOCK] {
            expect_hidden(t, &format!("{len} bytes cloned to {at}"), |file| {
                clone_range(&source, 0, 0, file, at as u64).or_fail("FICLONERANGE")?;
                Ok((at, vec![b's'; len]))
            })?;
        }
    }
    Ok(())
}

fn a_write_of_nothing_readable_does_not_move_the_end(t: &Test) -> Outcome {
    let nothing = Mapping::anonymous(BLOCK)?;
    nothing
        .protect(0, BLOCK, libc::PROT_NONE)
        .or_fail("mprotect")?;
    for model in [&b""[..], b"some bytes"] {
        let file = t.create_with("file", model)?;
        for offset in [0, 5, 50, BLOCK as i64, 5000, 1 << 20, 1 << 40] {
            for len in [1, BLOCK] {
                let what = format!("pwrite of {len} bytes that are not there at {offset}");
                let written = pwrite_from(&file, nothing.at(0), len, offset);
                expect_errno(written, libc::EFAULT, &what)?;
                file.expect_contents(model, &what)?;
            }
        }
        let appended = file.reopen(libc::O_WRONLY | libc::O_APPEND)?;
        let written = crate::sys::write_from(&appended, nothing.at(0), 1);
        expect_errno(written, libc::EFAULT, "an appended byte that is not there")?;
        file.expect_contents(model, "after that")?;
    }
    Ok(())
}

fn a_write_of_partly_readable_memory_ends_where_that_ends(t: &Test) -> Outcome {
    const HAVE: usize = 100;
    let memory = Mapping::anonymous(2 * BLOCK)?;
    memory.store(BLOCK - HAVE, &[b'm'; HAVE]);
    memory
        .protect(BLOCK, BLOCK, libc::PROT_NONE)
        .or_fail("mprotect")?;
    memory.protect(0, BLOCK, READ).or_fail("mprotect")?;
    for offset in [0, 5, BLOCK as i64 - 50, 1 << 20] {
        let file = t.create_with("file", b"some bytes")?;
        let what = format!("pwrite at {offset} with {HAVE} mapped bytes");
        let mut model = b"some bytes".to_vec();
        match pwrite_from(&file, memory.at(BLOCK - HAVE), 2 * HAVE, offset) {
            Ok(n) => {
                expect(n <= HAVE, format_args!("{what}: {n} bytes written"))?;
                let end = offset as usize + n;
                model.resize(model.len().max(end), 0);
                model[offset as usize..end].fill(b'm');
            }
            Err(error) => expect_eq(error, Errno(libc::EFAULT), &what)?,
        }
        file.expect_contents(&model, &what)?;
    }
    Ok(())
}
