// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Mounts in user namespaces, and mounts with mapped ids.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, Context, Outcome};
use crate::filesystem::{Feature, Tmpfs, INSTANCE};
use crate::sys::{chmod, chown, lstat, mkdir, File};

pub const CASES: &[Case] = &[
    case!(a_user_mounts_it_in_a_namespace_of_their_own).needs(INSTANCE),
    case!(options_of_a_mount_in_a_namespace_are_in_its_ids)
        .needs(INSTANCE)
        .except(
            Tmpfs,
            "shows ids of the initial namespace, and refuses them",
        ),
    case!(a_mount_can_map_ids),
    case!(the_clone_of_a_file_through_a_mapped_mount_belongs_to_the_mapped_user)
        .needs(&[Feature::Reflink]),
];

/// Runs a script as an unprivileged user who is root in a user namespace.
fn unshared(script: &str, name: &str, dir: &std::path::Path) -> Outcome<String> {
    let output = Command::new("unshare")
        .args(["-Urm", "sh", "-ec", script, "sh", name])
        .arg(dir)
        .uid(1000)
        .gid(1000)
        .output()
        .or_fail("unshare")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    expect(output.status.success(), format_args!("{script}: {errors}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn a_user_mounts_it_in_a_namespace_of_their_own(t: &Test) -> Outcome {
    let dir = t.elsewhere.join("mount-point");
    mkdir(&dir, 0o755).or_fail("mkdir")?;
    chmod(&t.elsewhere, 0o755).or_fail("chmod")?;
    let said = unshared(
        "mount -t $1 -o size=1M none $2; cd $2; echo data >file; cp file copy; cmp file copy
         mkdir dir; ln file dir/link; mv copy dir; stat -c %u:%g . file dir/copy
         ! mknod device b 7 0 2>/dev/null; ! chown 5 file 2>/dev/null
         cd /; umount $2; echo done",
        t.filesystem.name(),
        &dir,
    )?;
    expect_eq(
        said.as_str(),
        "0:0\n0:0\n0:0\ndone\n",
        "the output of the script",
    )
}

fn options_of_a_mount_in_a_namespace_are_in_its_ids(t: &Test) -> Outcome {
    let dir = t.elsewhere.join("mount-point");
    mkdir(&dir, 0o755).or_fail("mkdir")?;
    chmod(&t.elsewhere, 0o755).or_fail("chmod")?;
    let said = unshared(
        "! mount -t $1 -o uid=5 none $2 2>/dev/null
         mount -t $1 -o uid=0,gid=0,mode=700 none $2; stat -c %u:%g:%a $2
         mount -o remount,size=2M $2; df -B1M --output=size $2 | tail -n1",
        t.filesystem.name(),
        &dir,
    )?;
    let said: Vec<_> = said.split_whitespace().collect();
    expect_eq(said, vec!["0:0:700", "2"], "owner, permissions, size")
}

/// Mounts the test's directory with user 1000 mapped to root.
fn mapped(t: &Test) -> Outcome<std::path::PathBuf> {
    let view = t.elsewhere.join("mapped");
    mkdir(&view, 0o755).or_fail("mkdir")?;
    let output = Command::new("mount")
        .args(["--bind", "-o", "X-mount.idmap=b:0:1000:1"])
        .args([&t.dir, &view])
        .output()
        .or_fail("mount")?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    expect(output.status.success(), format_args!("mount: {errors}"))?;
    Ok(view)
}

fn a_mount_can_map_ids(t: &Test) -> Outcome {
    t.create_with("of-root", b"data")?;
    t.create("of-another")?;
    chown(t.path("of-another"), 7, 7).or_fail("chown")?;
    chown(&t.dir, 0, 0).or_fail("chown")?;
    let view = mapped(t)?;
    let owner = |name: &str| Ok(lstat(view.join(name)).or_fail("lstat")?.st_uid);
    expect_eq(
        owner("of-root")?,
        1000,
        "owner of root's file, seen through the mount",
    )?;
    expect_eq(
        owner("of-another")?,
        65534,
        "owner of a file that is not mapped",
    )?;
    crate::process::as_user(1000, 1000, || {
        let file = File::create(view.join("made"))?;
        file.write_at(b"by 1000", 0)
    })?;
    expect_eq(
        lstat(t.path("made")).or_fail("lstat")?.st_uid,
        0,
        "owner of a file that user 1000 made",
    )?;
    crate::sys::path_call!(umount2(&view, libc::MNT_DETACH)).or_fail("umount")
}

fn the_clone_of_a_file_through_a_mapped_mount_belongs_to_the_mapped_user(t: &Test) -> Outcome {
    let data = crate::pattern::blocks(1, 20);
    t.create_with("source", &data)?;
    chown(&t.dir, 0, 0).or_fail("chown")?;
    let view = mapped(t)?;
    crate::process::as_user(1000, 1000, || {
        let source = File::open(view.join("source"), libc::O_RDONLY).or_fail("open")?;
        let clone = crate::sys::new_clone(&source, view.join("clone"))?;
        clone.expect_contents(&data, "the clone")
    })?;
    expect_eq(
        lstat(t.path("clone")).or_fail("lstat")?.st_uid,
        0,
        "owner of the clone",
    )?;
    crate::sys::path_call!(umount2(&view, libc::MNT_DETACH)).or_fail("umount")
}
