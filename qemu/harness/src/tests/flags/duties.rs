// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The duties of a copy with each flag: see `tests::duty`.

use super::{COPY, DEDUP, REFLINK};
use crate::case::{case, Case, Test};
use crate::failure::{Outcome, Sys};
use crate::filesystem::CLONES;
use crate::pattern::BLOCK;
use crate::sys::copy_file_range;
use crate::tests::duty::{
    whole, AppendOnly, Event, Freeze, Immutable, Lease, Place, Privileges, Quota, SizeLimit, Stage,
    Times, Way,
};

pub const CASES: &[Case] = &[
    case!(a_copy_owes_what_a_write_owes),
    case!(a_reflink_owes_what_a_write_owes).needs(CLONES),
    case!(a_dedup_changes_nothing).needs(CLONES),
];

const OPENED: &str = "allows descriptors opened before, as ext4 does";
const AT_OPEN: &str = "opening the file for writing has broken it";
const NOTHING: &str = "nothing changes";

/// Copies a block from the same offset of the source, which is twice as long as the file.
fn call(stage: &Stage, place: Place, flags: u32) -> Sys {
    let (mut from, mut to) = (place.offset() as i64, place.offset() as i64);
    let (source, file) = (&stage.source, &stage.file);
    let done = copy_file_range(source, Some(&mut from), file, Some(&mut to), BLOCK, flags);
    whole(done, BLOCK)
}

const WRITES: Way = Way {
    name: "COPY_FR_COPY",
    go: |stage, place| call(stage, place, COPY),
    owes: &[
        Privileges, Times, Immutable, Freeze, SizeLimit, Quota, Event,
    ],
    free: &[(AppendOnly, OPENED), (Lease, AT_OPEN)],
    except: &[],
    refusal: None,
};

fn a_copy_owes_what_a_write_owes(t: &Test) -> Outcome {
    WRITES.check(t)
}

fn a_reflink_owes_what_a_write_owes(t: &Test) -> Outcome {
    Way {
        name: "COPY_FR_REFLINK",
        go: |stage, place| call(stage, place, REFLINK),
        ..WRITES
    }
    .check(t)
}

fn a_dedup_changes_nothing(t: &Test) -> Outcome {
    let way = Way {
        name: "COPY_FR_DEDUP",
        go: |stage, place| call(stage, place, DEDUP),
        owes: &[Immutable, Freeze],
        free: &[
            (Privileges, NOTHING),
            (Times, NOTHING),
            (AppendOnly, NOTHING),
            (SizeLimit, "has a test of its own"),
            (Quota, "it charges nothing new"),
            (Lease, AT_OPEN),
            (Event, NOTHING),
        ],
        ..WRITES
    };
    way.check(t)?;
    way.changes_nothing(t)
}
