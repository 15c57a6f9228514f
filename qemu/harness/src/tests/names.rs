// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Directories and the names in them.

use std::path::Path;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{Btrfs, Feature, Xfs};
use crate::process::as_user;
use crate::sys::{
    chmod, exists, link, lstat, mkdir, readlink, rename, rmdir, symlink, unlink, File,
};

pub const CASES: &[Case] = &[
    case!(a_created_file_is_found_by_its_name),
    case!(a_name_that_does_not_exist_is_enoent),
    case!(exclusive_creation_refuses_an_existing_name),
    case!(names_up_to_255_bytes_work_and_longer_ones_are_refused),
    case!(names_are_bytes_and_case_matters),
    case!(a_file_in_place_of_a_directory_is_enotdir),
    case!(mkdir_counts_links_in_the_parent).except(Btrfs, "directories always have one link"),
    case!(rmdir_refuses_what_is_not_an_empty_directory),
    case!(a_removed_directory_that_is_in_use_takes_no_new_names),
    case!(unlink_refuses_directories),
    case!(an_unlinked_open_file_lives_until_it_is_closed),
    case!(a_hard_link_is_the_same_file),
    case!(hard_links_are_refused_where_they_must_be),
    case!(a_symlink_keeps_its_target_as_written),
    case!(a_symlink_target_up_to_4095_bytes_works).except(Xfs, "targets have at most 1023 bytes"),
    case!(symlinks_are_followed_and_loops_found),
    case!(a_sticky_directory_protects_the_names_of_others),
    case!(a_deep_path_works),
    case!(many_names_can_be_made_and_removed),
    case!(names_cannot_be_made_without_permission),
    case!(every_file_has_an_inode_number_of_its_own),
    case!(two_instances_are_separate).needs(&[Feature::Instance]),
];

pub(super) fn links(path: impl AsRef<Path>) -> Outcome<libc::nlink_t> {
    Ok(lstat(path).or_fail("lstat")?.st_nlink)
}

pub(super) fn inode(path: impl AsRef<Path>) -> Outcome<u64> {
    Ok(lstat(path).or_fail("lstat")?.st_ino)
}

fn a_created_file_is_found_by_its_name(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let stat = lstat(t.path("file")).or_fail("lstat")?;
    expect_eq(stat.st_ino, file.stat()?.st_ino, "inode number by name")?;
    expect_eq(stat.st_mode, libc::S_IFREG | 0o644, "mode")?;
    expect_eq(stat.st_nlink, 1, "links")?;
    expect_eq(stat.st_size, 0, "size")?;
    unlink(t.path("file")).or_fail("unlink")?;
    expect_errno(
        lstat(t.path("file")).map(|_| ()),
        libc::ENOENT,
        "lstat after unlink",
    )
}

fn a_name_that_does_not_exist_is_enoent(t: &Test) -> Outcome {
    let missing = t.path("missing");
    expect_errno(File::open(&missing, libc::O_RDONLY), libc::ENOENT, "open")?;
    expect_errno(unlink(&missing), libc::ENOENT, "unlink")?;
    expect_errno(rmdir(&missing), libc::ENOENT, "rmdir")?;
    expect_errno(
        mkdir(missing.join("child"), 0o755),
        libc::ENOENT,
        "mkdir below it",
    )?;
    // The name can be created: a negative dentry must not stay.
    t.create("missing")?;
    expect(exists(&missing), "the name exists after it was created")
}

fn exclusive_creation_refuses_an_existing_name(t: &Test) -> Outcome {
    t.create_with("file", b"kept")?;
    t.mkdir("dir")?;
    symlink("nowhere", t.path("dangling")).or_fail("symlink")?;
    for name in ["file", "dir", "dangling"] {
        expect_errno(
            File::open(t.path(name), libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL),
            libc::EEXIST,
            format_args!("open(O_CREAT | O_EXCL) of {name}"),
        )?;
        expect_errno(
            mkdir(t.path(name), 0o755),
            libc::EEXIST,
            format_args!("mkdir {name}"),
        )?;
        expect_errno(
            symlink("x", t.path(name)),
            libc::EEXIST,
            format_args!("symlink {name}"),
        )?;
        let linked = link(t.path("file"), t.path(name));
        expect_errno(linked, libc::EEXIST, format_args!("link to {name}"))?;
    }
    let opened = File::open(t.path("dir"), libc::O_WRONLY | libc::O_CREAT);
    expect_errno(opened, libc::EISDIR, "open(O_CREAT) of a directory")?;
    File::open(t.path("file"), libc::O_RDONLY)
        .or_fail("open")?
        .expect_contents(b"kept", "after the refusals")
}

fn names_up_to_255_bytes_work_and_longer_ones_are_refused(t: &Test) -> Outcome {
    for len in [1, 31, 32, 40, 254, 255] {
        let name = "n".repeat(len);
        t.create(&name)?;
        expect(
            exists(t.path(&name)),
            format_args!("a name of {len} bytes is found"),
        )?;
        rename(t.path(&name), t.path("other")).or_fail("rename from a long name")?;
        rename(t.path("other"), t.path(&name)).or_fail("rename to a long name")?;
        unlink(t.path(&name)).or_fail("unlink")?;
    }
    let name = t.path(&"n".repeat(256));
    let flags = libc::O_RDWR | libc::O_CREAT;
    expect_errno(
        File::open(&name, flags),
        libc::ENAMETOOLONG,
        "create with 256 bytes",
    )?;
    expect_errno(
        mkdir(&name, 0o755),
        libc::ENAMETOOLONG,
        "mkdir with 256 bytes",
    )?;
    expect_errno(
        symlink("x", &name),
        libc::ENAMETOOLONG,
        "symlink with 256 bytes",
    )?;
    t.create("short")?;
    expect_errno(
        rename(t.path("short"), &name),
        libc::ENAMETOOLONG,
        "rename to 256 bytes",
    )?;
    expect_errno(
        link(t.path("short"), &name),
        libc::ENAMETOOLONG,
        "link to 256 bytes",
    )?;
    expect_errno(
        lstat(&name).map(|_| ()),
        libc::ENAMETOOLONG,
        "lstat of 256 bytes",
    )
}

fn names_are_bytes_and_case_matters(t: &Test) -> Outcome {
    use std::os::unix::ffi::OsStrExt;
    let names: [&[u8]; 8] = [
        b"name",
        b"NAME",
        b"Name",
        b" ",
        b"a\nb",
        b"\xff\xfe",
        b"...",
        "\u{e9}".as_bytes(),
    ];
    for (i, name) in names.iter().enumerate() {
        let path = t.dir.join(std::ffi::OsStr::from_bytes(name));
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
        let file = File::open(&path, flags).or_fail(format_args!("create {name:?}"))?;
        file.write_at(&[i as u8], 0)?;
    }
    for (i, name) in names.iter().enumerate() {
        let path = t.dir.join(std::ffi::OsStr::from_bytes(name));
        let file = File::open(&path, libc::O_RDONLY).or_fail(format_args!("open {name:?}"))?;
        file.expect_contents(&[i as u8], &format!("file {name:?}"))?;
    }
    Ok(())
}

fn a_file_in_place_of_a_directory_is_enotdir(t: &Test) -> Outcome {
    t.create("file")?;
    let below = t.path("file").join("below");
    expect_errno(
        lstat(&below).map(|_| ()),
        libc::ENOTDIR,
        "lstat below a file",
    )?;
    expect_errno(
        File::open(&below, libc::O_RDWR | libc::O_CREAT),
        libc::ENOTDIR,
        "create",
    )?;
    expect_errno(mkdir(&below, 0o755), libc::ENOTDIR, "mkdir below a file")?;
    expect_errno(rmdir(t.path("file")), libc::ENOTDIR, "rmdir of a file")?;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    expect_errno(
        File::open(t.path("file"), flags),
        libc::ENOTDIR,
        "open(O_DIRECTORY)",
    )?;
    expect_errno(
        unlink(t.path("file/")),
        libc::ENOTDIR,
        "unlink with a slash at the end",
    )
}

fn mkdir_counts_links_in_the_parent(t: &Test) -> Outcome {
    let parent = t.mkdir("parent")?;
    expect_eq(links(&parent)?, 2, "links of an empty directory")?;
    for i in 0..3 {
        mkdir(parent.join(format!("{i}")), 0o700).or_fail("mkdir")?;
        expect_eq(
            links(&parent)?,
            3 + i,
            format_args!("links with {} subdirectories", i + 1),
        )?;
    }
    expect_eq(links(parent.join("0"))?, 2, "links of a new subdirectory")?;
    File::create(parent.join("file"))?;
    expect_eq(links(&parent)?, 5, "links after a file was created")?;
    rmdir(parent.join("1")).or_fail("rmdir")?;
    expect_eq(links(&parent)?, 4, "links after rmdir of one")?;
    let dots = lstat(parent.join("0/..")).or_fail("lstat of ..")?;
    expect_eq(dots.st_ino, inode(&parent)?, "inode number of ..")
}

fn rmdir_refuses_what_is_not_an_empty_directory(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    File::create(dir.join("file"))?;
    expect_errno(
        rmdir(&dir),
        libc::ENOTEMPTY,
        "rmdir of a directory with a file",
    )?;
    unlink(dir.join("file")).or_fail("unlink")?;
    mkdir(dir.join("sub"), 0o755).or_fail("mkdir")?;
    expect_errno(
        rmdir(&dir),
        libc::ENOTEMPTY,
        "rmdir of a directory with a directory",
    )?;
    expect_errno(rmdir(dir.join("sub/.")), libc::EINVAL, "rmdir of .")?;
    expect_errno(rmdir(dir.join("sub/..")), libc::ENOTEMPTY, "rmdir of ..")?;
    symlink("sub", dir.join("symlink")).or_fail("symlink")?;
    expect_errno(
        rmdir(dir.join("symlink")),
        libc::ENOTDIR,
        "rmdir of a symlink",
    )?;
    unlink(dir.join("symlink")).or_fail("unlink")?;
    rmdir(dir.join("sub")).or_fail("rmdir")?;
    rmdir(&dir).or_fail("rmdir once it is empty")?;
    expect(!exists(&dir), "the directory is gone")
}

fn a_removed_directory_that_is_in_use_takes_no_new_names(t: &Test) -> Outcome {
    let path = t.mkdir("dir")?;
    let dir = File::open(&path, libc::O_RDONLY | libc::O_DIRECTORY).or_fail("open")?;
    rmdir(&path).or_fail("rmdir")?;
    expect_eq(dir.stat()?.st_nlink, 0, "links of the removed directory")?;
    use std::os::fd::AsRawFd;
    // SAFETY: the name is NUL-terminated.
    let made = crate::sys::check(unsafe { libc::mkdirat(dir.as_raw_fd(), c"x".as_ptr(), 0o755) });
    expect_errno(made, libc::ENOENT, "mkdir in the removed directory")?;
    t.mkdir("dir")?;
    expect(
        inode(&path)? != dir.stat()?.st_ino,
        "the new directory is another one",
    )
}

fn unlink_refuses_directories(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    expect_errno(unlink(&dir), libc::EISDIR, "unlink of a directory")?;
    expect(exists(&dir), "the directory is still there")
}

fn an_unlinked_open_file_lives_until_it_is_closed(t: &Test) -> Outcome {
    let file = t.create_with("file", b"still here")?;
    unlink(t.path("file")).or_fail("unlink")?;
    expect_eq(file.stat()?.st_nlink, 0, "links")?;
    file.expect_contents(b"still here", "after unlink")?;
    file.write_at(b"and growing", 10_000)?;
    expect_eq(file.size()?, 10_011, "size")?;
    let another = t.create_with("file", b"another")?;
    another.expect_contents(b"another", "a new file of that name")?;
    expect_eq(file.read_at(0, 10)?, b"still here", "the old file")
}

fn a_hard_link_is_the_same_file(t: &Test) -> Outcome {
    let file = t.create_with("one", b"data")?;
    let dir = t.mkdir("dir")?;
    link(t.path("one"), dir.join("two")).or_fail("link")?;
    expect_eq(file.stat()?.st_nlink, 2, "links")?;
    expect_eq(
        inode(dir.join("two"))?,
        inode(t.path("one"))?,
        "inode number of both names",
    )?;
    let two = File::open(dir.join("two"), libc::O_RDWR).or_fail("open by the other name")?;
    two.write_at(b"DATA", 0)?;
    file.expect_contents(b"DATA", "written by the other name")?;
    unlink(t.path("one")).or_fail("unlink the first name")?;
    expect_eq(two.stat()?.st_nlink, 1, "links after unlink")?;
    two.expect_contents(b"DATA", "after the first name went")?;
    unlink(dir.join("two")).or_fail("unlink the second name")?;
    expect_eq(two.stat()?.st_nlink, 0, "links at the end")
}

fn hard_links_are_refused_where_they_must_be(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    expect_errno(
        link(&dir, t.path("link")),
        libc::EPERM,
        "link to a directory",
    )?;
    expect_errno(
        link(t.path("missing"), t.path("link")),
        libc::ENOENT,
        "link to nothing",
    )?;
    t.create("file")?;
    expect_errno(
        link(t.path("file"), t.path("file")),
        libc::EEXIST,
        "link to itself",
    )?;
    let elsewhere = t.elsewhere.join("link");
    expect_errno(
        link(t.path("file"), &elsewhere),
        libc::EXDEV,
        "link across filesystems",
    )?;
    symlink("nowhere", t.path("dangling")).or_fail("symlink")?;
    link(t.path("dangling"), t.path("second")).or_fail("link to a symlink itself")?;
    expect_eq(links(t.path("dangling"))?, 2, "links of the symlink")?;
    expect_eq(
        readlink(t.path("second")).or_fail("readlink")?,
        Path::new("nowhere"),
        "target",
    )
}

fn a_symlink_keeps_its_target_as_written(t: &Test) -> Outcome {
    for target in [
        "x",
        "../..//./x/",
        "/absolute",
        "\u{1}\u{7f}",
        &"long/".repeat(200),
    ] {
        let at = t.path("symlink");
        symlink(target, &at).or_fail("symlink")?;
        expect_eq(
            readlink(&at).or_fail("readlink")?.as_os_str(),
            target,
            "target",
        )?;
        let stat = lstat(&at).or_fail("lstat")?;
        expect_eq(stat.st_size, target.len() as i64, "size of the symlink")?;
        expect_eq(stat.st_mode, libc::S_IFLNK | 0o777, "mode of the symlink")?;
        unlink(&at).or_fail("unlink")?;
    }
    expect_errno(
        symlink("", t.path("empty")),
        libc::ENOENT,
        "symlink to nothing",
    )
}

fn a_symlink_target_up_to_4095_bytes_works(t: &Test) -> Outcome {
    for len in [127, 128, 2048, 4094, 4095] {
        let target = "t".repeat(len);
        let at = t.path("symlink");
        symlink(&target, &at).or_fail(format_args!("symlink of {len} bytes"))?;
        let seen = readlink(&at).or_fail("readlink")?;
        expect(
            seen == Path::new(&target),
            format_args!("target of {len} bytes is kept"),
        )?;
        unlink(&at).or_fail("unlink")?;
    }
    let target = "t".repeat(4096);
    expect_errno(
        symlink(target, t.path("symlink")),
        libc::ENAMETOOLONG,
        "4096 bytes",
    )
}

fn symlinks_are_followed_and_loops_found(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    File::create(dir.join("file"))?.write_at(b"found", 0)?;
    symlink("dir", t.path("way")).or_fail("symlink")?;
    symlink("way/file", t.path("file")).or_fail("symlink")?;
    let file = File::open(t.path("file"), libc::O_RDONLY).or_fail("open through two symlinks")?;
    file.expect_contents(b"found", "through two symlinks")?;
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW;
    expect_errno(
        File::open(t.path("file"), flags),
        libc::ELOOP,
        "open(O_NOFOLLOW)",
    )?;
    symlink("loop2", t.path("loop1")).or_fail("symlink")?;
    symlink("loop1", t.path("loop2")).or_fail("symlink")?;
    expect_errno(
        File::open(t.path("loop1"), libc::O_RDONLY),
        libc::ELOOP,
        "open of a loop",
    )?;
    symlink("new", t.path("dangling")).or_fail("symlink")?;
    t.create("dangling")?;
    expect(
        exists(t.path("new")),
        "creating through a dangling symlink makes its target",
    )
}

fn a_sticky_directory_protects_the_names_of_others(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    chmod(&dir, 0o1777).or_fail("chmod")?;
    chmod(&t.dir, 0o755).or_fail("chmod")?;
    File::create(dir.join("of-root"))?;
    as_user(1000, 1000, || {
        File::create(dir.join("mine"))?;
        expect_errno(
            unlink(dir.join("of-root")),
            libc::EPERM,
            "unlink of root's file",
        )?;
        let moved = rename(dir.join("of-root"), dir.join("stolen"));
        expect_errno(moved, libc::EPERM, "rename of root's file")?;
        let replaced = rename(dir.join("mine"), dir.join("of-root"));
        expect_errno(replaced, libc::EPERM, "rename onto root's file")?;
        unlink(dir.join("mine")).or_fail("unlink of the own file")
    })
}

fn a_deep_path_works(t: &Test) -> Outcome {
    let depth = t.rounds(150);
    let mut path = t.dir.clone();
    for i in 0..depth {
        path = path.join(format!("d{i}"));
        mkdir(&path, 0o755).or_fail(format_args!("mkdir at depth {i}"))?;
    }
    let file = File::create(path.join("file"))?;
    file.write_at(b"deep", 0)?;
    rename(t.path("d0"), t.path("renamed")).or_fail("rename of the top")?;
    expect(!exists(&path), "the old path is gone")?;
    file.expect_contents(b"deep", "after the top was renamed")
}

fn many_names_can_be_made_and_removed(t: &Test) -> Outcome {
    let count = t.rounds(2000);
    for i in 0..count {
        t.create(&format!("name-{i}"))?;
    }
    for i in (0..count).step_by(2) {
        unlink(t.path(&format!("name-{i}"))).or_fail("unlink")?;
    }
    let left = std::fs::read_dir(&t.dir).or_fail("read_dir")?.count();
    expect_eq(
        left,
        count / 2,
        "names left after every other one was removed",
    )?;
    for i in (1..count).step_by(2) {
        unlink(t.path(&format!("name-{i}"))).or_fail("unlink")?;
    }
    expect_eq(
        std::fs::read_dir(&t.dir).or_fail("read_dir")?.count(),
        0,
        "names left",
    )
}

fn names_cannot_be_made_without_permission(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    File::create(dir.join("file"))?;
    as_user(1000, 1000, || {
        let flags = libc::O_RDWR | libc::O_CREAT;
        expect_errno(File::open(dir.join("x"), flags), libc::EACCES, "create")?;
        expect_errno(mkdir(dir.join("x"), 0o755), libc::EACCES, "mkdir")?;
        expect_errno(symlink("x", dir.join("x")), libc::EACCES, "symlink")?;
        expect_errno(unlink(dir.join("file")), libc::EACCES, "unlink")?;
        let renamed = rename(dir.join("file"), dir.join("x"));
        expect_errno(renamed, libc::EACCES, "rename")?;
        let opened = File::open(dir.join("file"), libc::O_WRONLY);
        expect_errno(opened, libc::EACCES, "open for writing a file of mode 644")
    })
}

fn every_file_has_an_inode_number_of_its_own(t: &Test) -> Outcome {
    let mut seen = std::collections::HashSet::new();
    for i in 0..t.rounds(200) {
        let file = t.create(&format!("file-{i}"))?;
        let number = file.stat()?.st_ino;
        expect(number != 0, "an inode number is not 0")?;
        expect(
            seen.insert(number),
            format_args!("inode number {number} is given once"),
        )?;
    }
    Ok(())
}

fn two_instances_are_separate(t: &Test) -> Outcome {
    let one = t.mount_at("one", &[("size", "1M")])?;
    let other = t.mount_at("other", &[("size", "1M")])?;
    one.create_with("file", b"one")?;
    other.create_with("file", b"other")?;
    let file = |path| File::open(path, libc::O_RDONLY).or_fail("open");
    file(one.path("file"))?.expect_contents(b"one", "the first instance")?;
    file(other.path("file"))?.expect_contents(b"other", "the second instance")?;
    expect(
        lstat(&one.root).or_fail("lstat")?.st_dev != lstat(&other.root).or_fail("lstat")?.st_dev,
        "two instances have two device numbers",
    )?;
    let renamed = rename(one.path("file"), other.path("x"));
    expect_errno(renamed, libc::EXDEV, "rename between instances")
}
