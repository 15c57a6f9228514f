// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The small sample programs: they never destroy a file.

use std::collections::BTreeMap;
use std::path::Path;

use super::manual::{program, run};
use super::Disk;
use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, Context, Outcome};
use crate::filesystem::Feature;
use crate::pattern::{blocks, pattern, BLOCK};
use crate::process::End;

const NEEDS: &[Feature] = &[Feature::Programs];

pub const CASES: &[Case] = &[
    case!(a_file_onto_itself_is_refused).needs(NEEDS),
    case!(nothing_is_made_of_a_source_that_is_missing).needs(NEEDS),
    case!(a_directory_is_no_destination).needs(NEEDS),
    case!(a_destination_is_replaced_as_a_whole).needs(NEEDS),
    case!(what_fails_leaves_the_destination_as_it_was).needs(NEEDS),
    case!(a_full_disk_leaves_the_destination_as_it_was).needs(NEEDS),
    case!(help_is_told_and_a_wrong_line_refused).needs(NEEDS),
];

/// Programs that make a file from another.
const MAKERS: [&str; 3] = ["ficlone", "copy_file_range", "copy_fr_reflink"];
/// Programs that change no byte.
const SHARERS: [&str; 2] = ["copy_fr_dedup", "fideduperange"];

fn call(name: &str, from: &Path, to: &Path) -> Outcome<(End, String)> {
    run(
        &program(name),
        &[&from.to_string_lossy(), &to.to_string_lossy()],
    )
}

#[track_caller]
fn expect_end(name: &str, from: &Path, to: &Path, status: i32, message: &str) -> Outcome {
    let (end, said) = call(name, from, to)?;
    expect_eq(end, End::Exited(status), format_args!("{name}: '{said}'"))?;
    expect(
        said.contains(message),
        format_args!("{name}: '{message}' expected, not '{said}'"),
    )
}

/// Returns the names in a directory, with their inodes.
fn names(dir: &Path) -> Outcome<BTreeMap<String, u64>> {
    std::fs::read_dir(dir)
        .or_fail("read the directory")?
        .map(|entry| {
            let entry = entry.or_fail("an entry")?;
            let stat = crate::sys::lstat(entry.path()).or_fail("lstat")?;
            Ok((
                entry.file_name().to_string_lossy().into_owned(),
                stat.st_ino,
            ))
        })
        .collect()
}

fn a_file_onto_itself_is_refused(t: &Test) -> Outcome {
    let data = pattern(1, 3 * BLOCK + 5);
    let file = t.create_with("file", &data)?;
    std::fs::hard_link(&file.path, t.path("link")).or_fail("link")?;
    std::os::unix::fs::symlink("file", t.path("symlink")).or_fail("symlink")?;
    let before = names(&t.dir)?;
    for to in ["file", "link", "symlink"] {
        for name in MAKERS {
            expect_end(name, &file.path, &t.path(to), 1, "is the source itself")?;
        }
        for name in SHARERS {
            expect_end(name, &file.path, &t.path(to), 2, "is the same file")?;
        }
        file.expect_contents(&data, &format!("the file, onto {to}"))?;
        expect_eq(names(&t.dir)?, before.clone(), "the names")?;
    }
    Ok(())
}

fn nothing_is_made_of_a_source_that_is_missing(t: &Test) -> Outcome {
    let old = t.create_with("old", b"kept")?;
    let before = names(&t.dir)?;
    for to in ["old", "new"] {
        for name in MAKERS {
            expect_end(name, &t.path("none"), &t.path(to), 1, "No such file")?;
        }
        for name in SHARERS {
            expect_end(name, &t.path("none"), &t.path(to), 2, "No such file")?;
        }
    }
    expect_eq(names(&t.dir)?, before, "the names")?;
    old.expect_contents(b"kept", "the destination")
}

fn a_directory_is_no_destination(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(1, 1))?;
    let dir = t.mkdir("dir")?;
    std::os::unix::fs::symlink("none", t.path("dangling")).or_fail("symlink")?;
    let before = names(&t.dir)?;
    for name in MAKERS {
        expect_end(name, &source.path, &dir, 1, "Is a directory")?;
        expect_end(name, &source.path, "/dev/null".as_ref(), 1, "not a regular")?;
        expect_end(name, &source.path, &t.path("dangling"), 1, "No such file")?;
        expect_end(name, &source.path, &t.path("none/to"), 1, "No such file")?;
        expect_end(name, &dir, &t.path("to"), 1, "Is a directory")?;
    }
    expect_eq(names(&t.dir)?, before, "the names")?;
    expect_eq(names(&dir)?.len(), 0, "names in the directory")
}

fn a_destination_is_replaced_as_a_whole(t: &Test) -> Outcome {
    let data = pattern(1, 2 * BLOCK + 5);
    let source = t.create_with("source", &data)?;
    for name in MAKERS {
        if name != "copy_file_range" && !t.filesystem.can_share() {
            continue;
        }
        // Longer, and with another name, which keeps the old contents.
        let old = t.create_with("to", &blocks(2, 5))?;
        crate::sys::chmod(&old.path, 0o640).or_fail("chmod")?;
        std::fs::hard_link(&old.path, t.path("other")).or_fail("link")?;
        std::os::unix::fs::symlink("to", t.path("symlink")).or_fail("symlink")?;
        expect_end(name, &source.path, &t.path("symlink"), 0, "")?;
        let seen = std::fs::read(t.path("to")).or_fail("read")?;
        expect(seen == data, format_args!("{name}: the source's bytes"))?;
        let stat = crate::sys::lstat(t.path("to")).or_fail("lstat")?;
        expect_eq(
            stat.st_mode & 0o7777,
            0o640,
            format_args!("{name}: the mode"),
        )?;
        old.expect_contents(&blocks(2, 5), "the old file by its other name")?;
        expect_eq(names(&t.dir)?.len(), 4, "names")?;
        for gone in ["to", "other", "symlink"] {
            crate::sys::unlink(t.path(gone)).or_fail("unlink")?;
        }
    }
    Ok(())
}

fn what_fails_leaves_the_destination_as_it_was(t: &Test) -> Outcome {
    let data = blocks(1, 2);
    let source = t.create_with("source", &data)?;
    let here = t.create_with("here", &blocks(2, 3))?;
    let there = t.create_elsewhere("there", &blocks(2, 3))?;
    let before = names(&t.dir)?;
    for name in MAKERS {
        expect_end(name, &source.path, &there.path, 1, "")?;
        there.expect_contents(&blocks(2, 3), name)?;
        if name != "copy_file_range" && !t.filesystem.can_share() {
            expect_end(name, &source.path, &here.path, 1, "")?;
            here.expect_contents(&blocks(2, 3), name)?;
        }
    }
    for name in SHARERS {
        expect_end(name, &source.path, &here.path, 1, "of another size")?;
        here.expect_contents(&blocks(2, 3), name)?;
    }
    expect_eq(names(&t.dir)?, before, "the names")
}

fn a_full_disk_leaves_the_destination_as_it_was(t: &Test) -> Outcome {
    let disk = Disk::new(t)?;
    let data = blocks(4, 256);
    let source = disk.create_with("source", &data)?;
    let to = disk.create_with("to", &blocks(5, 3))?;
    source.sync()?;
    to.sync()?;
    let filler = disk.fill(32 * BLOCK as u64)?;
    let before = names(&disk.root)?;
    expect_end(
        "copy_file_range",
        &source.path,
        &to.path,
        1,
        "No space left",
    )?;
    to.expect_contents(&blocks(5, 3), "the destination")?;
    source.expect_contents(&data, "the source")?;
    expect_eq(names(&disk.root)?, before, "the names")?;
    drop((source, to, filler));
    disk.unmount()
}

fn help_is_told_and_a_wrong_line_refused(t: &Test) -> Outcome {
    let all = [
        &MAKERS[..],
        &SHARERS,
        &["copy_fr_once", "copy_fr_once-rust"],
    ]
    .concat();
    for name in all {
        let (end, said) = run(&program(name), &["--help"])?;
        expect_eq(end, End::Exited(0), format_args!("{name} --help"))?;
        expect(
            said.starts_with(&format!("usage: {}", name.trim_end_matches("-rust"))),
            format_args!("{name} --help: '{said}'"),
        )?;
        let (end, said) = run(&program(name), &["one"])?;
        expect_eq(end, End::Exited(2), format_args!("{name} one: '{said}'"))?;
    }
    expect_eq(names(&t.dir)?.len(), 0, "names")
}
