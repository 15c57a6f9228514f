// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The mount of a file in statx(2).

use std::path::Path;

use super::statx::statx;
use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, Context, Outcome};
use crate::instance::{bind_read_only, unmount};

pub const CASES: &[Case] = &[
    case!(two_mounts_have_two_names),
    case!(no_mount_has_the_unique_name_of_another),
];

const STATX_MNT_ID: u32 = 0x1000;
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;

fn two_mounts_have_two_names(t: &Test) -> Outcome {
    let view = t.read_only_view()?;
    t.create("file")?;
    let (here, there) = (
        statx(t.path("file"), STATX_MNT_ID)?,
        statx(view.join("file"), STATX_MNT_ID)?,
    );
    expect(here.stx_mnt_id != there.stx_mnt_id, "the names are two")?;
    expect_eq(here.stx_ino, there.stx_ino, "one file")?;
    for (path, root) in [(&view, true), (&view.join("file"), false)] {
        let seen = statx(path, 0)?;
        expect(
            seen.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT != 0,
            "statx knows roots of mounts",
        )?;
        expect_eq(
            seen.stx_attributes & STATX_ATTR_MOUNT_ROOT != 0,
            root,
            format_args!("{} is the root of a mount", path.display()),
        )?;
    }
    Ok(())
}

fn no_mount_has_the_unique_name_of_another(t: &Test) -> Outcome {
    let unique = |path: &Path| {
        let seen = statx(path, STATX_MNT_ID_UNIQUE)?;
        expect(
            seen.stx_mask & STATX_MNT_ID_UNIQUE != 0,
            "statx has the unique name of the mount",
        )?;
        Ok(seen.stx_mnt_id)
    };
    t.create("file")?;
    let here = unique(&t.dir)?;
    expect_eq(unique(&t.path("file"))?, here, "the name, of a file in it")?;
    let short = statx(&t.dir, STATX_MNT_ID)?.stx_mnt_id;
    expect(short != here, "it is not the name that is used again")?;
    let view = t.read_only_view()?;
    let mut names = vec![here];
    for _ in 0..5 {
        let there = unique(&view)?;
        expect_eq(unique(&view.join("file"))?, there, "the name, of a file")?;
        expect(
            !names.contains(&there),
            format_args!("{there} is the name of no mount that was there before: {names:?}"),
        )?;
        names.push(there);
        unmount(&view).or_fail("umount")?;
        bind_read_only(&t.dir, &view).or_fail("a read-only bind mount")?;
    }
    Ok(())
}
