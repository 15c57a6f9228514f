// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The manual page's program, which copies a file with `COPY_FR_COPY`, NULL offsets, and the file's
//! size at its beginning.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{range, Disk, REFLINK};
use crate::case::{case, Case, Test};
use crate::extents::expect_nothing_shared;
use crate::failure::{expect, expect_eq, Context, Outcome};
use crate::filesystem::{Feature, Reflinkfs};
use crate::pattern::{blocks, pattern, BLOCK};
use crate::process::{programs, Child, End};
use crate::sys::File;
use crate::wait::eventually;

const NEEDS: &[Feature] = &[Feature::Programs];

pub const CASES: &[Case] = &[
    case!(the_manual_pages_program_copies_a_file).needs(NEEDS),
    case!(it_copies_an_empty_file).needs(NEEDS),
    case!(it_replaces_what_was_there).needs(NEEDS),
    case!(it_says_that_the_source_is_missing).needs(NEEDS),
    case!(it_says_that_the_disk_is_full).needs(NEEDS),
    case!(it_says_that_the_files_are_on_different_filesystems).needs(NEEDS),
    case!(it_ends_when_the_source_shrinks_under_it).needs(NEEDS),
];

/// Returns the path of a program that was built for the tests.
pub fn program(name: &str) -> PathBuf {
    programs().unwrap_or(Path::new("")).join(name)
}

/// Runs a program; returns its end, and both outputs in one text.
pub fn run(program: &Path, arguments: &[&str]) -> Outcome<(End, String)> {
    let script = [
        "-c",
        "exec 2>&1; exec \"$0\" \"$@\"",
        &program.to_string_lossy(),
    ];
    let words = [&script[..], arguments].concat();
    crate::process::run_program("/bin/sh".as_ref(), &words)
}

fn copy_file(from: &Path, to: &Path) -> Outcome<(End, String)> {
    let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
    run(&program("copy_file_range"), &[&from, &to])
}

#[track_caller]
fn expect_copied(from: &Path, to: &Path, data: &[u8]) -> Outcome<File> {
    let (end, said) = copy_file(from, to)?;
    expect_eq((end, said.as_str()), (End::Exited(0), ""), "the program")?;
    let to = File::open(to, libc::O_RDONLY).or_fail("open")?;
    to.expect_contents(data, "the copy")?;
    Ok(to)
}

#[track_caller]
fn expect_error(from: &Path, to: &Path, message: &str) -> Outcome {
    let (end, said) = copy_file(from, to)?;
    expect_eq(
        end,
        End::Exited(1),
        format_args!("the program, which said '{said}'"),
    )?;
    expect(
        said.contains(message),
        format_args!("expected it to say '{message}', but it said '{said}'"),
    )
}

fn the_manual_pages_program_copies_a_file(t: &Test) -> Outcome {
    let data = pattern(1, 100 * BLOCK + 123);
    let source = t.create_with("source", &data)?;
    let to = expect_copied(&source.path, &t.path("to"), &data)?;
    if t.filesystem.can_share() {
        expect_nothing_shared(&source, &to)?;
    }
    Ok(())
}

fn it_copies_an_empty_file(t: &Test) -> Outcome {
    let source = t.create("source")?;
    expect_copied(&source.path, &t.path("to"), b"").map(drop)
}

fn it_replaces_what_was_there(t: &Test) -> Outcome {
    let source = t.create_with("source", &pattern(2, BLOCK + 1))?;
    let to = t.create_with("to", &blocks(3, 9))?;
    expect_copied(&source.path, &to.path, &pattern(2, BLOCK + 1)).map(drop)
}

fn it_says_that_the_source_is_missing(t: &Test) -> Outcome {
    expect_error(
        &t.path("missing"),
        &t.path("to"),
        "No such file or directory",
    )?;
    expect(!crate::sys::exists(t.path("to")), "nothing was made")
}

fn it_says_that_the_disk_is_full(t: &Test) -> Outcome {
    let disk = Disk::new(t)?;
    let data = blocks(4, 256);
    let source = disk.create_with("source", &data)?;
    source.sync()?;
    // The file exists already, but there is no room for its bytes.
    let to = disk.create_with("to", b"")?;
    let filler = disk.fill(32 * BLOCK as u64)?;
    expect_error(&source.path, &to.path, "No space left on device")?;
    to.expect_contents(b"", "the destination")?;
    source.expect_contents(&data, "the source")?;
    drop((source, to, filler));
    disk.unmount()
}

fn it_says_that_the_files_are_on_different_filesystems(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(5, 1))?;
    let to = t.elsewhere.join("to");
    expect_error(&source.path, &to, "Invalid cross-device link")
}

/// The file takes long to copy. Once the program has its size, the file is emptied.
fn it_ends_when_the_source_shrinks_under_it(t: &Test) -> Outcome {
    let mut size = 64 * BLOCK;
    let source = t.create_with("source", &blocks(6, 64))?;
    if t.filesystem == Reflinkfs {
        while size < 8 << 30 {
            super::copy_all(&source, &source, range(0, size as u64, size), REFLINK)?;
            size *= 2;
        }
    } else {
        size = 512 << 20;
        source.truncate(size as u64)?;
    }
    let (from, to) = (source.path.clone(), t.path("to"));
    let child = Child::spawn(|| expect_error(&from, &to, "Invalid argument"))?;
    // The program copies to a new file, and renames it when all is done.
    eventually("something is copied", || {
        let names = std::fs::read_dir(&t.dir).or_fail("read the directory")?;
        let has_some = names.flatten().any(|entry| {
            entry.file_name() != "source"
                && crate::sys::lstat(entry.path()).is_ok_and(|stat| stat.st_size > 0)
        });
        Ok(has_some || child.is_over())
    })?;
    source.truncate(BLOCK as u64)?;
    let limit = Duration::from_secs(if t.settings.divisor > 1 { 180 } else { 60 });
    let end = child.wait_for(limit)?;
    expect_eq(
        end,
        Some(End::Exited(0)),
        format_args!("the program: {}", child.said()),
    )?;
    expect(
        !crate::sys::exists(t.path("to")),
        "no destination with a part of the source",
    )
}
