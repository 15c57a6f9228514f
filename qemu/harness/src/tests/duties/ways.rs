// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Each way to change a file, and its duties: a table with a test for each line. `duty.rs` has the
//! duties and their checks.

use std::os::fd::AsRawFd;
use std::ptr::null_mut;

use io_uring::opcode;

use crate::case::{case, Case, Test};
use crate::failure::{Errno, Outcome};
use crate::filesystem::{Btrfs, Ext4, Tmpfs, Xfs, CLONES};
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::ring::{fd, Ring};
use crate::sys::{
    check, clone_file, clone_range, copy_once, dedupe, pipe, pread_to, truncate, write_all,
    Deduped, File,
};
use crate::tests::duty::{
    whole, AppendOnly, Event, Freeze, Immutable, Lease, Place, Privileges, Quota, SizeLimit, Times,
    Way, LEN,
};
use crate::tests::fallocate::fallocate;

/// The table: a test for each way, under its name, with the features it needs and the filesystems
/// that skip it.
macro_rules! table {
    ($($(#[$doc:meta])* $way:ident {
        go: $go:expr,
        owes: [$($owed:expr),*],
        free: [$($free:expr),* $(,)?],
        except: [$($except:expr),* $(,)?],
        $(refusal: $refusal:expr,)?
        $(case: $(.$with:ident($($argument:expr),*))+,)?
    })*) => {
        pub const CASES: &[Case] = &[
            $(case!($way)$($(.$with($($argument),*))+)?,)*
            case!(a_dedupe_changes_nothing).needs(CLONES),
        ];
        $($(#[$doc])* fn $way(t: &Test) -> Outcome {
            Way {
                name: stringify!($way),
                go: $go,
                owes: &[$($owed),*],
                free: &[$($free),*],
                except: &[$($except),*],
                refusal: None$(.or(Some($refusal)))?,
            }
            .check(t)
        })*
    };
}

const OPENED: &str = "allows descriptors opened before, as ext4 does";
const AT_OPEN: &str =
    "opening the file for writing has broken it, and none is given while it is open";
const SHRINKS: &str = "the file does not grow";
const KEEPS: &str = "the size stays as it is";
const MOVES: &str = "no block is made";
const UNASKED: &str = "allows descriptors opened before";
const NO_SIGNAL: &str = "the limit is met by a thread of the kernel";
const NONE: &str = "has none";

table! {
    write {
        go: |stage, place| {
            let done = stage.file.try_pwrite(&blocks(2, 1), place.offset());
            whole(done, BLOCK)
        },
        owes: [Privileges, Times, Immutable, Freeze, SizeLimit, Quota, Event],
        free: [(AppendOnly, OPENED), (Lease, AT_OPEN)],
        except: [(Immutable, Tmpfs, UNASKED), (Immutable, Xfs, UNASKED), (Immutable, Btrfs, UNASKED)],
    }
    write_with_flags {
        go: |stage, place| {
            let data = blocks(2, 1);
            let part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: BLOCK };
            let (file, at) = (stage.file.as_raw_fd(), place.offset() as i64);
            // SAFETY: one vector that describes the data.
            let done = unsafe { libc::pwritev2(file, &part, 1, at, libc::RWF_DSYNC) };
            whole(check(done as i64), BLOCK)
        },
        owes: [Privileges, Times, Immutable, Freeze, SizeLimit, Quota, Event],
        free: [(AppendOnly, OPENED), (Lease, AT_OPEN)],
        except: [(Immutable, Tmpfs, UNASKED), (Immutable, Xfs, UNASKED), (Immutable, Btrfs, UNASKED)],
    }
    append {
        go: |stage, _| whole(stage.append.try_pwrite(&blocks(2, 1), 0), BLOCK),
        owes: [Privileges, Times, Immutable, Freeze, SizeLimit, Quota, Event],
        free: [(AppendOnly, "it is allowed"), (Lease, AT_OPEN)],
        except: [(Immutable, Tmpfs, UNASKED), (Immutable, Xfs, UNASKED), (Immutable, Btrfs, UNASKED)],
    }
    splice {
        go: |stage, place| {
            let (from, to) = pipe().map_err(|_| Errno(libc::EMFILE))?;
            write_all(&to, &blocks(2, 1)).map_err(|_| Errno(libc::EPIPE))?;
            let (from, to) = (from.as_raw_fd(), stage.file.as_raw_fd());
            let mut at = place.offset() as i64;
            // SAFETY: open descriptors; the offset is valid during the call.
            let done = unsafe { libc::splice(from, null_mut(), to, &mut at, BLOCK, 0) };
            whole(check(done as i64), BLOCK)
        },
        owes: [Privileges, Times, Immutable, Freeze, SizeLimit, Quota, Event],
        free: [(AppendOnly, OPENED), (Lease, AT_OPEN)],
        except: [(Immutable, Tmpfs, UNASKED), (Immutable, Xfs, UNASKED), (Immutable, Btrfs, UNASKED)],
    }
    sendfile {
        go: |stage, place| {
            stage.file.seek(place.offset() as i64, libc::SEEK_SET)?;
            let (to, from) = (stage.file.as_raw_fd(), stage.source.as_raw_fd());
            let mut at = 0;
            // SAFETY: open descriptors; the offset is valid during the call.
            let done = unsafe { libc::sendfile(to, from, &mut at, BLOCK) };
            whole(check(done as i64), BLOCK)
        },
        owes: [Privileges, Times, Immutable, Freeze, SizeLimit, Quota, Event],
        free: [(AppendOnly, OPENED), (Lease, AT_OPEN)],
        except: [(Immutable, Tmpfs, UNASKED), (Immutable, Xfs, UNASKED), (Immutable, Btrfs, UNASKED)],
    }
    write_by_io_uring {
        go: |stage, place| {
            let data = blocks(2, 1);
            let request = opcode::Write::new(fd(&stage.file), data.as_ptr(), BLOCK as u32)
                .offset(place.offset())
                .build();
            let mut ring = Ring::new().map_err(|_| Errno(libc::ENOSYS))?;
            // SAFETY: the data lives until the result is there.
            let done = unsafe { ring.one(request) }.map_err(|_| Errno(libc::ENOSYS))?;
            whole(done, BLOCK)
        },
        owes: [Privileges, Times, Immutable, Freeze, SizeLimit, Quota, Event],
        free: [(AppendOnly, OPENED), (Lease, AT_OPEN)],
        except: [
            (Immutable, Tmpfs, UNASKED),
            (Immutable, Xfs, UNASKED),
            (Immutable, Btrfs, UNASKED),
            (SizeLimit, Tmpfs, NO_SIGNAL),
        ],
    }
    /// The kernel stores, so that a SIGBUS of a program is an errno here.
    mapped_store {
        go: |stage, place| {
            let at = place.offset();
            if place == Place::Behind {
                stage.file.try_truncate(LEN + BLOCK64)?;
            }
            whole(pread_to(&stage.source, stage.mapping.at(at as usize), 8, 0), 8)
        },
        owes: [Times, Immutable, Freeze, Quota],
        free: [
            (Privileges, "no filesystem takes them"),
            (AppendOnly, OPENED),
            (SizeLimit, KEEPS),
            (Lease, AT_OPEN),
            (Event, "fanotify(7): stores to a mapping are not seen"),
        ],
        except: [
            (Times, Tmpfs, "notices no stores"),
            (Immutable, Tmpfs, UNASKED),
            (Immutable, Xfs, UNASKED),
            (Immutable, Btrfs, UNASKED),
        ],
        refusal: libc::EFAULT,
    }
    copy_file_range_that_copies {
        go: |stage, place| {
            let done = copy_once(&stage.source, 1, &stage.file, place.offset(), BLOCK);
            whole(done, BLOCK)
        },
        owes: [Privileges, Times, Immutable, Freeze, SizeLimit, Quota, Event],
        free: [(AppendOnly, OPENED), (Lease, AT_OPEN)],
        except: [],
    }
    copy_file_range_that_shares {
        go: |stage, place| {
            let done = copy_once(&stage.source, BLOCK64, &stage.file, place.offset(), BLOCK);
            whole(done, BLOCK)
        },
        owes: [Privileges, Times, Immutable, Freeze, SizeLimit, Quota, Event],
        free: [(AppendOnly, OPENED), (Lease, AT_OPEN)],
        except: [],
    }
    clone_of_a_file {
        go: |stage, _| clone_file(&stage.source, &stage.file),
        owes: [Privileges, Times, Immutable, Freeze, Quota, Event],
        free: [
            (AppendOnly, OPENED),
            (SizeLimit, "it is EINVAL, as the limit makes the range invalid"),
            (Lease, AT_OPEN),
        ],
        except: [],
        case: .needs(CLONES),
    }
    clone_of_a_range {
        go: |stage, place| {
            clone_range(&stage.source, BLOCK64, BLOCK64, &stage.file, place.offset())
        },
        owes: [Privileges, Times, Immutable, Freeze, SizeLimit, Quota, Event],
        free: [(AppendOnly, OPENED), (Lease, AT_OPEN)],
        except: [],
        case: .needs(CLONES),
    }
    allocating {
        go: |stage, place| fallocate(&stage.file, 0, place.offset(), BLOCK64),
        owes: [Privileges, Times, Immutable, Freeze, SizeLimit, Quota, Event],
        free: [(AppendOnly, "it changes no existing bytes"), (Lease, AT_OPEN)],
        except: [],
    }
    allocating_behind_the_end {
        go: |stage, _| fallocate(&stage.file, libc::FALLOC_FL_KEEP_SIZE, LEN, BLOCK64),
        owes: [Privileges, Times, Immutable, Freeze, Quota, Event],
        free: [
            (AppendOnly, "it changes no existing bytes"),
            (SizeLimit, KEEPS),
            (Lease, AT_OPEN),
        ],
        except: [],
    }
    punching_a_hole {
        go: |stage, place| {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            fallocate(&stage.file, mode, place.offset(), BLOCK64)
        },
        owes: [Privileges, Times, Immutable, AppendOnly, Freeze, Event],
        free: [(SizeLimit, KEEPS), (Quota, MOVES), (Lease, AT_OPEN)],
        except: [],
    }
    zeroing_a_range {
        go: |stage, place| {
            fallocate(&stage.file, libc::FALLOC_FL_ZERO_RANGE, place.offset(), BLOCK64)
        },
        owes: [Privileges, Times, Immutable, AppendOnly, Freeze, SizeLimit, Quota, Event],
        free: [(Lease, AT_OPEN)],
        except: [],
        case: .except(Tmpfs, NONE),
    }
    unsharing_a_range {
        go: |stage, place| {
            fallocate(&stage.file, libc::FALLOC_FL_UNSHARE_RANGE, place.offset(), BLOCK64)
        },
        owes: [Privileges, Times, Immutable, AppendOnly, Freeze, SizeLimit, Quota, Event],
        free: [(Lease, AT_OPEN)],
        except: [],
        case: .except(Tmpfs, NONE).except(Btrfs, NONE).except(Ext4, NONE),
    }
    collapsing_a_range {
        go: |stage, _| {
            fallocate(&stage.file, libc::FALLOC_FL_COLLAPSE_RANGE, BLOCK64, BLOCK64)
        },
        owes: [Privileges, Times, Immutable, AppendOnly, Freeze, Event],
        free: [(SizeLimit, SHRINKS), (Quota, MOVES), (Lease, AT_OPEN)],
        except: [],
        case: .except(Tmpfs, NONE).except(Btrfs, NONE),
    }
    inserting_a_range {
        go: |stage, _| {
            fallocate(&stage.file, libc::FALLOC_FL_INSERT_RANGE, BLOCK64, BLOCK64)
        },
        owes: [Privileges, Times, Immutable, AppendOnly, Freeze, SizeLimit, Event],
        free: [(Quota, MOVES), (Lease, AT_OPEN)],
        except: [],
        case: .except(Tmpfs, NONE).except(Btrfs, NONE),
    }
    truncation_by_name {
        go: |stage, place| truncate(&stage.file.path, new_size(place) as i64),
        owes: [Privileges, Times, Immutable, AppendOnly, Freeze, SizeLimit, Lease, Event],
        free: [(Quota, MOVES)],
        except: [],
    }
    truncation_of_an_open_file {
        go: |stage, place| stage.file.try_truncate(new_size(place)),
        owes: [Privileges, Times, Immutable, AppendOnly, Freeze, SizeLimit, Event],
        free: [(Quota, MOVES), (Lease, AT_OPEN)],
        except: [(Immutable, Tmpfs, UNASKED), (Immutable, Xfs, UNASKED), (Immutable, Btrfs, UNASKED)],
    }
    opening_with_truncation {
        go: |stage, _| {
            File::open(&stage.file.path, libc::O_WRONLY | libc::O_TRUNC).map(drop)
        },
        owes: [Privileges, Times, Immutable, AppendOnly, Freeze, Lease, Event],
        free: [(SizeLimit, SHRINKS), (Quota, MOVES)],
        except: [],
    }
}

/// To less than half, or to a block more.
fn new_size(place: Place) -> u64 {
    match place {
        Place::Inside => 3 * BLOCK64 + 1,
        Place::Behind => LEN + BLOCK64,
    }
}

fn a_dedupe_changes_nothing(t: &Test) -> Outcome {
    let way = Way {
        name: "dedupe",
        go: |stage, place| {
            let at = place.offset();
            match dedupe(&stage.source, at, BLOCK64, &stage.file, at)? {
                Deduped::Same(BLOCK64) => Ok(()),
                Deduped::Failed(error) => Err(error),
                _ => Err(Errno(libc::EBADE)),
            }
        },
        owes: &[Immutable, Freeze],
        free: &[
            (Privileges, "nothing changes"),
            (Times, "nothing changes"),
            (AppendOnly, "nothing changes"),
            (SizeLimit, "has a test of its own"),
            (Quota, "it charges nothing new"),
            (Lease, AT_OPEN),
            (Event, "nothing changes"),
        ],
        except: &[],
        refusal: None,
    };
    way.check(t)?;
    way.changes_nothing(t)
}
