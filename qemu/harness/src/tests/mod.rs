// SPDX-License-Identifier: GPL-2.0 OR MIT
//! All tests: one file for each concern, a folder for a large one.

use crate::case::Case;

macro_rules! modules {
    ($($module:ident $({ $($part:ident),+ $(,)? })?),+ $(,)?) => {
        $(modules!(@declare $module $($($part)+)?);)+

        /// All tests, by the name of their file.
        pub const ALL: &[&[(&str, &[Case])]] = &[$(modules!(@list $module $($($part)+)?)),+];
    };
    (@declare $module:ident) => { pub mod $module; };
    (@declare $folder:ident $($part:ident)+) => { mod $folder { $(pub mod $part;)+ } };
    (@list $module:ident) => { &[(stringify!($module), $module::CASES)] };
    (@list $folder:ident $($part:ident)+) => {
        &[$((concat!(stringify!($folder), "::", stringify!($part)), $folder::$part::CASES)),+]
    };
}

modules! {
    names,
    rename,
    rename_flags,
    tmpfile,
    files { read_write, holes, sizes, buffers, descriptors },
    copy { contents, offsets, sharing, refusals, steps, bounds },
    clone { contents, sharing, ranges, refusals, generations, faults },
    dedupe { sharing, refusals, bounds },
    fallocate,
    preallocated,
    reservations,
    fiemap,
    mmap { shared, private, holes, around, end_of_file, lifetime, clones },
    direct,
    readdir,
    attributes,
    xattr,
    acl,
    chattr,
    handles,
    evicted { attributes, data, names, costs },
    forks { contents, histories, removed, refusals, users, stores, races, name_races, stalled, costs, faults },
    leases,
    locks,
    collapse_insert,
    statx,
    mount_names,
    privileges,
    rwf,
    io_uring,
    registered_buffers,
    notify,
    pre_access,
    refused,
    many_names,
    madvise,
    memory_errors,
    userfaultfd,
    debugging,
    lmdb,
    cgroup,
    splice,
    zero_copy,
    futex,
    duties { ways, long_calls },
    mounting { options, bad_options, remounting, lifetime, users, freezing },
    space,
    tracing,
    quota { options, limits, sharing, owners, usage },
    exec,
    advice,
    races { clones, pins, lost_updates, contents, names, everything, evicting, page_tables, comparing },
    fuzz,
    bombs,
    isolation,
    ends,
    last_block,
    limits,
    large,
    accounting,
    bounds,
    sysfs,
    failures,
    sweeps,
    costs,
    module,
}

mod duty;
mod flag_faults;
pub mod flags;
mod hook;
pub mod injection;

/// Tests, by the name of their file.
type Concern = (&'static str, &'static [Case]);

/// The subject of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Group {
    /// A filesystem, on the kernel as it is
    Files,
    /// The flags of copy_file_range(2) on a filesystem; the module copy_fr is loaded
    Flags,
    /// The module copy_fr itself, and failures inside it: one test at a time
    Hook,
    /// Tests that run for a given time: random calls, memory
    Torture,
}

impl Group {
    pub fn concerns(self) -> &'static [&'static [Concern]] {
        match self {
            Self::Files => ALL,
            Self::Flags => &[flags::ALL],
            Self::Torture => &[&[("torture", crate::torture::CASES)]],
            Self::Hook => &[&[("hook", hook::CASES), ("flag_faults", flag_faults::CASES)]],
        }
    }
}
