// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The library for programs, in C and in Rust: the same results with the module, and without it, by
//! the kernel's own calls.

use std::path::Path;

use super::manual::program;
use super::{apply, range, Range, COPY, DEDUP, PLAIN, REFLINK};
use crate::case::{case, Case, Test};
use crate::extents::{block_map, letters};
use crate::failure::{expect, expect_eq, Outcome};
use crate::filesystem::{Feature, Tmpfs};
use crate::pattern::{pattern, BLOCK, BLOCK64};
use crate::process::{run_program, End};
use crate::sys::File;

pub const CASES: &[Case] =
    &[case!(the_library_does_the_same_with_and_without_the_module).needs(&[Feature::Programs])];

const SIZE: usize = 6 * BLOCK + 123;

/// The ranges and destinations for the tools.
const PLACES: &[(u32, Range, usize)] = &[
    // The flag, the range, the size of the destination before.
    (COPY, range(0, 0, SIZE), 0),
    (COPY, range(BLOCK64, 2 * BLOCK64, 3 * BLOCK), SIZE),
    (COPY, range(100, 7, 5000), SIZE),
    (COPY, range(0, 0, SIZE + 1), SIZE),
    (COPY, range(SIZE as u64, 0, 1), 0),
    (COPY, range(0, 0, 0), 100),
    (REFLINK, range(0, 0, SIZE), 0),
    (REFLINK, range(BLOCK64, 2 * BLOCK64, 3 * BLOCK), SIZE),
    (
        REFLINK,
        range(4 * BLOCK64, 6 * BLOCK64, 2 * BLOCK + 123),
        SIZE,
    ),
    (REFLINK, range(4 * BLOCK64, 0, 2 * BLOCK + 123), SIZE),
    (REFLINK, range(100, 0, BLOCK), SIZE),
    (REFLINK, range(0, 100, BLOCK), SIZE),
    (REFLINK, range(0, 0, BLOCK + 1), SIZE),
    (REFLINK, range(0, 0, SIZE + 1), SIZE),
    (REFLINK, range(0, 0, 0), 100),
    (DEDUP, range(0, 0, SIZE), SIZE),
    (DEDUP, range(BLOCK64, BLOCK64, 3 * BLOCK), SIZE),
    (DEDUP, range(BLOCK64, 2 * BLOCK64, 3 * BLOCK), SIZE),
    (DEDUP, range(0, 0, SIZE), SIZE - 1),
    (DEDUP, range(100, 100, BLOCK), SIZE),
    (DEDUP, range(0, 0, SIZE + 1), SIZE),
    (DEDUP, range(0, 0, 0), SIZE),
    (PLAIN, range(0, 0, SIZE), 0),
    (PLAIN, range(100, 7, 5000), SIZE),
];

/// The output of a tool, and the destination afterwards.
#[derive(Debug, PartialEq)]
struct Result {
    end: End,
    said: String,
    contents_match: bool,
    blocks: String,
}

/// Runs a tool. For deduplication the destination has the source's bytes.
fn result_of(
    t: &Test,
    tool: &Path,
    kernel: bool,
    flags: u32,
    place: Range,
    old: usize,
) -> Outcome<Result> {
    let data = pattern(1, SIZE);
    let source = t.create_with("source", &data)?;
    let mut model = pattern(if flags == DEDUP { 1 } else { 2 }, old);
    let to = t.create_with("to", &model)?;
    let at = |file: &File, offset| format!("{}:{offset}", file.path.display());
    let (from_word, to_word) = (at(&source, place.off_in), at(&to, place.off_out));
    let len = place.len.to_string();
    let mut words = vec![];
    match flags {
        COPY => words.push("--copy"),
        REFLINK => words.push("--reflink"),
        DEDUP => words.push("--dedup"),
        _ => {}
    }
    if !kernel {
        words.push("--no-kernel");
    }
    words.extend([&*from_word, &*to_word, &*len]);
    let (end, said) = run_program(tool, &words)?;
    let said = said.trim().to_owned();
    let count = said
        .strip_prefix("bytes ")
        .and_then(|rest| rest.split(' ').next());
    let count = count.and_then(|count| count.parse().ok()).unwrap_or(0);
    expect(
        matches!(end, End::Exited(0 | 1))
            && (said.starts_with("bytes ") || said.starts_with("error ")),
        format_args!("{} {words:?}: {end:?}, '{said}'", tool.display()),
    )?;
    expect(count <= place.len, format_args!("{words:?}: '{said}'"))?;
    apply(&mut model, &data, place, count);
    let blocks = if t.filesystem == Tmpfs {
        String::new()
    } else {
        letters(&to)?
    };
    if flags == COPY && t.filesystem.can_share() {
        expect_eq(
            block_map(&source)?.len(),
            SIZE.div_ceil(BLOCK),
            "blocks of the source",
        )?;
    }
    Ok(Result {
        end,
        said,
        contents_match: to.contents()? == model,
        blocks,
    })
}

fn the_library_does_the_same_with_and_without_the_module(t: &Test) -> Outcome {
    let tools = ["copy_fr_once", "copy_fr_once-rust"].map(program);
    let mut wrong = String::new();
    // The library does the same on every kernel; on a slow one a few cells suffice.
    let step = if t.settings.divisor > 1 { 5 } else { 1 };
    for &(flags, place, old) in PLACES.iter().step_by(step) {
        let reference = result_of(t, &tools[0], true, flags, place, old)?;
        let what = format!("flags {flags}, {place:?} onto {old} bytes");
        if !reference.contents_match {
            wrong += &format!("\n{what}: the bytes are not those of '{}'", reference.said);
        }
        for (tool, kernel) in [(&tools[0], false), (&tools[1], true), (&tools[1], false)] {
            let result = result_of(t, tool, kernel, flags, place, old)?;
            if result != reference {
                wrong += &format!(
                    "\n{what}: {} {}: {result:?}, but in C with the module: {reference:?}",
                    tool.display(),
                    if kernel {
                        "with the module"
                    } else {
                        "without the module"
                    },
                );
            }
        }
    }
    expect(wrong.is_empty(), format_args!("not the same:{wrong}"))
}
