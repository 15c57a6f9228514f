// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The option fork=: what it refuses, how it names a mount, and what holds the mount.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::contents::fork;
use crate::case::{case, Case, Test};
use crate::failure::{
    expect, expect_eq, expect_errno, expect_one_of, Context, Errno, Outcome, Sys,
};
use crate::filesystem::FORKS;
use crate::instance::{bind_read_only, mount, unmount, Configuration, Instance};
use crate::process::in_child;
use crate::sys::{check, lstat, mkdir, rmdir, symlink, File};

pub const CASES: &[Case] = &[
    case!(what_is_no_mount_of_it_is_refused).needs(FORKS),
    case!(a_mount_is_named_in_many_ways).needs(FORKS),
    case!(a_path_counts_from_the_current_directory).needs(FORKS),
    case!(a_path_may_have_a_comma).needs(FORKS),
    case!(a_path_may_be_long).needs(FORKS),
    case!(it_is_given_once).needs(FORKS),
    case!(a_mount_that_exists_does_not_become_a_fork).needs(FORKS),
    case!(quotas_are_refused).needs(FORKS),
    case!(other_options_are_taken).needs(FORKS),
    case!(a_bad_limit_changes_nothing).needs(FORKS),
    case!(the_base_is_busy_until_the_fork_is_made).needs(FORKS),
    case!(a_base_may_be_detached_before_the_fork_is_made).needs(FORKS),
];

const FSCONFIG_SET_PATH: u32 = 3;
const FSCONFIG_SET_PATH_EMPTY: u32 = 4;
const FSCONFIG_SET_FD: u32 = 5;

fn open(t: &Test) -> Outcome<Configuration> {
    Configuration::open(t.filesystem.name()).or_fail("fsopen")
}

/// Gives the options, and creates the filesystem. An option without a value is a flag.
fn create(t: &Test, options: &[(&str, Option<&str>)]) -> Outcome<(Sys, Configuration)> {
    let configuration = open(t)?;
    let result = options
        .iter()
        .try_for_each(|(key, value)| match value {
            Some(value) => configuration.set(key, value),
            None => configuration.set_flag(key),
        })
        .and_then(|()| configuration.create());
    Ok((result, configuration))
}

#[track_caller]
fn expect_refused(t: &Test, options: &[(&str, Option<&str>)], errnos: &[i32]) -> Outcome {
    let (result, configuration) = create(t, options)?;
    expect_one_of(result, errnos, format_args!("{options:?}"))?;
    let log = configuration.log();
    // The errors of a path walk speak for themselves.
    expect(
        result != Err(Errno(libc::EINVAL)) || log.lines().any(|line| line.starts_with("e ")),
        format_args!("{options:?}: there is a message"),
    )
}

/// Mounts a base with a file, which [`expect_fork`] looks for.
fn base(t: &Test, options: &[(&str, &str)]) -> Outcome<Instance> {
    let base = t.mount_at("base", options)?;
    base.create_with("file", b"of the base")?;
    Ok(base)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Mounts what was created, and checks that it is a fork of [`base`].
#[track_caller]
fn expect_fork(t: &Test, configuration: &Configuration) -> Outcome {
    let root = t.elsewhere.join("a fork");
    if !root.exists() {
        mkdir(&root, 0o755).or_fail("mkdir")?;
    }
    configuration.mount(&root).or_fail("mounting the fork")?;
    let file = File::open(root.join("file"), libc::O_RDWR).or_fail("open")?;
    file.expect_contents(b"of the base", "in the fork")?;
    file.write_at(b"of the fork", 0)?;
    drop(file);
    unmount(&root).or_fail("umount")
}

/// Checks that nothing holds the base, and that it can be forked.
#[track_caller]
fn expect_unharmed(t: &Test, base: Instance) -> Outcome {
    let (result, configuration) = create(t, &[("fork", Some(&text(&base.root)))])?;
    result.or_fail("creating a fork")?;
    expect_fork(t, &configuration)?;
    drop(configuration);
    base.unmount()
}

fn what_is_no_mount_of_it_is_refused(t: &Test) -> Outcome {
    let base = base(t, &[])?;
    mkdir(base.path("dir"), 0o755).or_fail("mkdir")?;
    let bound = t.elsewhere.join("bound");
    mkdir(&bound, 0o755).or_fail("mkdir")?;
    bind_read_only(&base.path("dir"), &bound).or_fail("a bind mount")?;
    let tmpfs = Instance::mount("tmpfs", t.elsewhere.join("tmpfs"), &[])?;
    let path = |name: &str| Some(text(&base.path(name)));
    let refused = [
        (None, libc::EINVAL),
        (Some(String::new()), libc::ENOENT),
        (path("file"), libc::EINVAL),
        (path("dir"), libc::EINVAL),
        (path("file/below"), libc::ENOTDIR),
        (path("missing"), libc::ENOENT),
        (Some(text(&bound)), libc::EINVAL),
        (Some(text(&tmpfs.root)), libc::EINVAL),
        (Some("/proc".into()), libc::EINVAL),
        (Some("x".repeat(255)), libc::ENOENT),
        // A string of fsconfig(2) ends there.
        (Some(format!("/{}", "x/".repeat(150))), libc::EINVAL),
    ];
    for (value, errno) in &refused {
        let errnos = [*errno, libc::EINVAL];
        let (result, _) = create(t, &[("fork", value.as_deref())])?;
        expect_one_of(result, &errnos, format_args!("fork={value:?}"))?;
    }
    let at = t.elsewhere.join("refused");
    mkdir(&at, 0o755).or_fail("mkdir")?;
    for (value, errno) in &refused {
        let option = match value {
            Some(value) => format!("fork={value}"),
            None => "fork".into(),
        };
        let result = mount(t.filesystem.name(), &at, 0, &option);
        let errnos = [*errno, libc::EINVAL, libc::ENOENT];
        expect_one_of(result, &errnos, format_args!("mount(2) with {option}"))?;
    }
    for what in ["file", "dir"] {
        let there = File::open(base.path(what), libc::O_RDONLY).or_fail("open")?;
        let given = open(t)?.set_as(FSCONFIG_SET_FD, "fork", None, there.as_raw_fd());
        expect_errno(
            given,
            libc::EINVAL,
            format_args!("a descriptor of a {what}"),
        )?;
    }
    let (output, _input) = crate::sys::pipe()?;
    let given = open(t)?.set_as(FSCONFIG_SET_FD, "fork", None, output.as_raw_fd());
    expect_errno(given, libc::EINVAL, "a descriptor of a pipe")?;
    let given = open(t)?.set_as(FSCONFIG_SET_FD, "fork", None, 12345);
    expect_errno(given, libc::EBADF, "no descriptor")?;
    let given = open(t)?.set_as(2, "fork", Some("binary"), 6);
    expect_errno(given, libc::EINVAL, "a blob")?;
    unmount(&bound).or_fail("umount")?;
    expect_unharmed(t, base)
}

fn a_mount_is_named_in_many_ways(t: &Test) -> Outcome {
    let base = base(t, &[])?;
    let link = t.elsewhere.join("link");
    symlink(&base.root, &link).or_fail("symlink")?;
    let view = t.elsewhere.join("view");
    mkdir(&view, 0o755).or_fail("mkdir")?;
    bind_read_only(&base.root, &view).or_fail("a bind mount")?;
    mkdir(base.path("dir"), 0o755).or_fail("mkdir")?;
    let inner = Instance::mount(t.filesystem.name(), base.path("dir/inner"), &[])?;
    inner.create_with("file", b"of the base")?;
    for path in [
        text(&base.root),
        format!("{}/", base.root.display()),
        format!("{}/dir/..", base.root.display()),
        text(&link),
        text(&view),
        text(&inner.root),
    ] {
        let (result, configuration) = create(t, &[("fork", Some(&path))])?;
        result.or_fail(format_args!("fork={path}"))?;
        expect_fork(t, &configuration).or_fail(&path)?;
    }
    // What is mounted on the base is not in its fork.
    let copy = fork(t, &base, "fork")?;
    expect(
        !copy.path("dir/inner/file").exists(),
        "no mount in the fork",
    )?;
    copy.unmount()?;
    inner.unmount()?;
    unmount(&view).or_fail("umount")?;
    expect_unharmed(t, base)
}

fn a_path_counts_from_the_current_directory(t: &Test) -> Outcome {
    let base = base(t, &[])?;
    let other = t.mount_at("other", &[])?;
    let at = t.elsewhere.join("at");
    mkdir(&at, 0o755).or_fail("mkdir")?;
    let inner = other.path("base");
    mkdir(&inner, 0o755).or_fail("mkdir")?;
    in_child(|| {
        std::env::set_current_dir(&t.elsewhere).or_fail("chdir")?;
        // Descriptor 0 is what a number that was not given would mean.
        let zero = File::open(&other.root, libc::O_RDONLY).or_fail("open")?;
        // SAFETY: plain call on open descriptors.
        check(unsafe { libc::dup2(zero.as_raw_fd(), 0) }).or_fail("dup2")?;
        let (result, configuration) = create(t, &[("fork", Some("base"))])?;
        result.or_fail("fork=base")?;
        expect_fork(t, &configuration)?;
        mount(t.filesystem.name(), &at, 0, "fork=base").or_fail("mount(2)")?;
        expect(at.join("file").exists(), "it is a fork of the base")?;
        unmount(&at).or_fail("umount")?;
        std::env::set_current_dir(&base.root).or_fail("chdir")?;
        let (result, configuration) = create(t, &[("fork", Some("."))])?;
        result.or_fail("fork=.")?;
        expect_fork(t, &configuration)?;
        let (result, _) = create(t, &[("fork", Some(""))])?;
        expect_one_of(result, &[libc::ENOENT, libc::EINVAL], "an empty path")?;
        let result = mount(t.filesystem.name(), &at, 0, "fork=");
        expect_one_of(result, &[libc::ENOENT, libc::EINVAL], "fork= of mount(2)")
    })?;
    expect_unharmed(t, base)
}

/// Forks a base by each way but a string of mount(2).
fn expect_named(t: &Test, base: &Instance, by_string: bool) -> Outcome {
    let path = text(&base.root);
    let o_path = libc::O_PATH | libc::O_DIRECTORY;
    let named = File::open(&base.root, o_path).or_fail("open(O_PATH)")?;
    let opened = File::open(&base.root, libc::O_RDONLY).or_fail("open")?;
    let beside = base.root.parent().unwrap_or(Path::new("/"));
    let beside = File::open(beside, o_path).or_fail("open(O_PATH)")?;
    let name = base.root.file_name().unwrap_or_default().to_string_lossy();
    let here = libc::AT_FDCWD;
    for (command, value, aux) in [
        (FSCONFIG_SET_PATH, Some(path.as_str()), here),
        (FSCONFIG_SET_PATH, Some(&name), beside.as_raw_fd()),
        (FSCONFIG_SET_PATH_EMPTY, Some(""), named.as_raw_fd()),
        (FSCONFIG_SET_PATH_EMPTY, Some(&path), here),
        (FSCONFIG_SET_FD, None, opened.as_raw_fd()),
    ] {
        let what = format!("command {command} with {value:?}");
        let configuration = open(t)?;
        configuration
            .set_as(command, "fork", value, aux)
            .or_fail(&what)?;
        configuration.create().or_fail(&what)?;
        expect_fork(t, &configuration).or_fail(&what)?;
    }
    let (result, configuration) = create(t, &[("fork", Some(&path))])?;
    match by_string {
        true => result
            .or_fail("fsconfig with a string")
            .and_then(|()| expect_fork(t, &configuration)),
        false => expect_errno(result, libc::EINVAL, "a long string of fsconfig"),
    }
}

fn a_path_may_have_a_comma(t: &Test) -> Outcome {
    let root = t.elsewhere.join("one, and the other");
    let base = Instance::mount(t.filesystem.name(), root, &[])?;
    base.create_with("file", b"of the base")?;
    expect_named(t, &base, true)?;
    let at = t.elsewhere.join("at");
    mkdir(&at, 0o755).or_fail("mkdir")?;
    let option = format!("fork={}", base.root.display());
    let result = mount(t.filesystem.name(), &at, 0, &option);
    let errnos = [libc::ENOENT, libc::EINVAL];
    expect_one_of(result, &errnos, "mount(2) with a comma")?;
    expect_unharmed(t, base)
}

fn a_path_may_be_long(t: &Test) -> Outcome {
    let mut dir = t.elsewhere.clone();
    for letter in ["a", "b"] {
        dir.push(letter.repeat(150));
        mkdir(&dir, 0o755).or_fail("mkdir")?;
    }
    let base = Instance::mount(t.filesystem.name(), dir.join("base"), &[])?;
    base.create_with("file", b"of the base")?;
    expect_named(t, &base, false)?;
    let at = t.elsewhere.join("at");
    mkdir(&at, 0o755).or_fail("mkdir")?;
    let option = format!("fork={}", base.root.display());
    mount(t.filesystem.name(), &at, 0, &option).or_fail("mount(2) with a long path")?;
    expect(at.join("file").exists(), "it is a fork of the base")?;
    unmount(&at).or_fail("umount")?;
    base.unmount()
}

fn it_is_given_once(t: &Test) -> Outcome {
    let base = base(t, &[])?;
    let other = t.mount_at("other", &[])?;
    let (one, two) = (text(&base.root), text(&other.root));
    for second in [&one, &two] {
        let options = [("fork", Some(one.as_str())), ("fork", Some(second))];
        expect_refused(t, &options, &[libc::EINVAL])?;
    }
    let at = t.elsewhere.join("at");
    mkdir(&at, 0o755).or_fail("mkdir")?;
    let result = mount(
        t.filesystem.name(),
        &at,
        0,
        &format!("fork={one},fork={two}"),
    );
    expect_errno(result, libc::EINVAL, "mount(2)")?;
    other.unmount()?;
    expect_unharmed(t, base)
}

fn a_mount_that_exists_does_not_become_a_fork(t: &Test) -> Outcome {
    let base = base(t, &[])?;
    let other = t.mount_at("other", &[])?;
    let copy = fork(t, &base, "fork")?;
    let path = text(&base.root);
    for fs in [&base, &other, &copy] {
        let refused = fs.reconfigure(&[("fork", &path)]).map_err(|(e, _)| e);
        expect_errno(refused, libc::EINVAL, "fsconfig")?;
        let option = format!("fork={path}");
        let refused = mount("", &fs.root, libc::MS_REMOUNT, &option);
        expect_errno(refused, libc::EINVAL, "mount(2)")?;
        fs.reconfigure(&[("size", "8M")])
            .map_err(|(e, _)| e)
            .or_fail("another remount")?;
    }
    copy.unmount()?;
    other.unmount()?;
    expect_unharmed(t, base)
}

fn quotas_are_refused(t: &Test) -> Outcome {
    let plain = base(t, &[])?;
    let path = text(&plain.root);
    let fork = ("fork", Some(path.as_str()));
    for quota in ["quota", "usrquota", "grpquota"] {
        let quota = (quota, None);
        for options in [[fork, quota], [quota, fork]] {
            expect_refused(t, &options, &[libc::EOPNOTSUPP])?;
        }
    }
    let with = t.mount_at("with quotas", &[("quota", "")])?;
    let with_path = text(&with.root);
    let fork = ("fork", Some(with_path.as_str()));
    for options in [vec![fork], vec![fork, ("quota", None)]] {
        expect_refused(t, &options, &[libc::EOPNOTSUPP])?;
    }
    with.unmount()?;
    expect_unharmed(t, plain)
}

fn other_options_are_taken(t: &Test) -> Outcome {
    let base = base(t, &[("size", "1M"), ("nr_inodes", "100")])?;
    let path = text(&base.root);
    let fork = ("fork", path.as_str());
    let options = [
        ("size", "2M"),
        ("nr_inodes", "200"),
        ("mode", "0711"),
        ("uid", "5"),
        ("gid", "6"),
    ];
    let base_root = || lstat(&base.root).or_fail("stat");
    let before = base_root()?;
    for option in options {
        for options in [[fork, option], [option, fork]] {
            let copy = t.mount_at("fork", &options)?;
            let stat = lstat(&copy.root).or_fail("stat")?;
            let (space, of_base) = (copy.space()?, base.space()?);
            expect_eq(space, of_base, "both have the same limits")?;
            let mut expected = (before.st_mode, before.st_uid, before.st_gid);
            match option.0 {
                "size" => expect_eq(space.blocks, 512, "blocks")?,
                "nr_inodes" => expect_eq(space.inodes, 200, "inodes")?,
                "mode" => expected.0 = libc::S_IFDIR | 0o711,
                "uid" => expected.1 = 5,
                _ => expected.2 = 6,
            }
            expect_eq((stat.st_mode, stat.st_uid, stat.st_gid), expected, option.0)?;
            let now = base_root()?;
            expect_eq(
                (now.st_mode, now.st_uid, now.st_gid),
                (before.st_mode, before.st_uid, before.st_gid),
                format_args!("the base, with {option:?}"),
            )?;
            copy.unmount()?;
            let (size, inodes) = (("size", "1M"), ("nr_inodes", "100"));
            let reset = base.reconfigure(&[size, inodes]).map_err(|(e, _)| e);
            reset.or_fail("remount")?;
            rmdir(t.elsewhere.join("fork")).or_fail("rmdir")?;
        }
    }
    expect_unharmed(t, base)
}

fn a_bad_limit_changes_nothing(t: &Test) -> Outcome {
    let base = base(t, &[("size", "1M"), ("nr_inodes", "100")])?;
    for i in 0..20 {
        base.create_with(&format!("file{i}"), b"data")?;
    }
    let path = text(&base.root);
    let before = base.space()?;
    for options in [
        [("size", "4k"), ("nr_inodes", "200")],
        [("size", "2M"), ("nr_inodes", "10")],
        [("size", "4k"), ("nr_inodes", "10")],
    ] {
        let [one, two] = options.map(|(key, value)| (key, Some(value)));
        let (result, _) = create(t, &[("fork", Some(&path)), one, two])?;
        expect_errno(result, libc::EINVAL, format_args!("{options:?}"))?;
        expect_eq(base.space()?, before, format_args!("after {options:?}"))?;
    }
    expect_unharmed(t, base)
}

fn the_base_is_busy_until_the_fork_is_made(t: &Test) -> Outcome {
    let base = base(t, &[])?;
    let path = text(&base.root);
    // A context that is given up holds nothing.
    let configuration = open(t)?;
    configuration.set("fork", &path).or_fail("fork=")?;
    expect_errno(unmount(&base.root), libc::EBUSY, "umount of the base")?;
    drop(configuration);
    let configuration = open(t)?;
    configuration.set("fork", &path).or_fail("fork=")?;
    expect_errno(unmount(&base.root), libc::EBUSY, "umount of the base")?;
    // Not as of when the option was given.
    let file = base.create_with("file", b"of the BASE")?;
    file.write_at(b"of the base", 0)?;
    drop(file);
    configuration.create().or_fail("create")?;
    base.unmount()?;
    expect_fork(t, &configuration)
}

fn a_base_may_be_detached_before_the_fork_is_made(t: &Test) -> Outcome {
    let base = base(t, &[])?;
    let configuration = open(t)?;
    configuration
        .set("fork", &text(&base.root))
        .or_fail("fork=")?;
    let root: PathBuf = base.root.clone();
    // Detaches it.
    drop(base);
    expect(!root.exists(), "the base is detached")?;
    configuration.create().or_fail("create")?;
    expect_fork(t, &configuration)
}
