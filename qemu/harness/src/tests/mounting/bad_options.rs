// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Bad mount options: refused, named, and without a trace.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Failure, Outcome};
use crate::filesystem::{Tmpfs, INSTANCE};
use crate::instance::{mount, unmount, Configuration};
use crate::runner::KernelLog;
use crate::sys::mkdir;

pub const CASES: &[Case] = &[
    case!(a_bad_value_is_refused_and_named).needs(INSTANCE),
    case!(an_empty_or_nonsensical_value_is_refused_and_named)
        .needs(INSTANCE)
        .except(Tmpfs, "takes % for no limit and -1 for a huge number"),
    case!(an_unknown_option_is_refused_and_named).needs(INSTANCE),
    case!(an_option_that_lacks_its_value_is_refused_and_named).needs(INSTANCE),
    case!(an_option_that_is_no_text_is_refused_and_named).needs(INSTANCE),
    case!(a_bad_option_of_the_old_mount_call_is_named_in_the_kernel_log).needs(INSTANCE),
    case!(mount_8_reports_a_bad_option).needs(INSTANCE),
    case!(a_refused_mount_leaves_nothing_behind).needs(INSTANCE),
];

/// Sets one option in a new filesystem context and tries to create the filesystem. Returns (the
/// errno, the messages).
fn refusal(t: &Test, key: &str, value: Option<&str>) -> Outcome<(Errno, String)> {
    let configuration = Configuration::open(t.filesystem.name()).or_fail("fsopen")?;
    let set = match value {
        Some(value) => configuration.set(key, value),
        None => configuration.set_flag(key),
    };
    match set.and_then(|()| configuration.create()) {
        Err(error) => Ok((error, configuration.log())),
        Ok(()) => Err(Failure::new(format_args!("{key}={value:?} was accepted"))),
    }
}

fn expect_named(t: &Test, key: &str, value: Option<&str>) -> Outcome {
    let (error, log) = refusal(t, key, value)?;
    let what = format!("{key}={value:?}");
    expect(
        error == Errno(libc::EINVAL) || error == Errno(libc::ERANGE),
        format_args!("{what}: expected EINVAL, got {error}"),
    )?;
    expect(
        log.lines()
            .any(|line| line.starts_with("e ") && line.contains(key)),
        format_args!("{what}: an error message names the option; the log says: {log:?}"),
    )
}

fn an_option_that_is_no_text_is_refused_and_named(t: &Test) -> Outcome {
    const BINARY: u32 = 2;
    const PATH: u32 = 3;
    const FD: u32 = 5;
    for key in ["size", "nr_inodes", "mode", "quota", "usrquota"] {
        for (command, value, aux) in [
            (BINARY, Some("16"), 2),
            (PATH, Some("/"), libc::AT_FDCWD),
            (FD, None, 0),
        ] {
            let configuration = Configuration::open(t.filesystem.name()).or_fail("fsopen")?;
            let refused = configuration.set_as(command, key, value, aux);
            let what = format!("{key} by fsconfig's command {command}");
            expect_errno(refused, libc::EINVAL, &what)?;
            let log = configuration.log();
            let named = log.lines().any(|l| l.starts_with("e ") && l.contains(key));
            expect(named, format_args!("{what}: a message names it: {log:?}"))?;
        }
    }
    Ok(())
}

const BAD_VALUES: &[(&str, &str)] = &[
    ("size", "banana"),
    ("size", "8Mx"),
    ("size", "x8M"),
    ("nr_inodes", "many"),
    ("nr_inodes", "10x"),
    ("mode", "9"),
    ("mode", "rwx"),
    ("uid", "nobody"),
    ("uid", "-1"),
    ("uid", "4294967295"),
    ("gid", "users"),
    ("gid", "-1"),
    ("gid", "99999999999"),
];

fn a_bad_value_is_refused_and_named(t: &Test) -> Outcome {
    for (key, value) in BAD_VALUES {
        expect_named(t, key, Some(value))?;
    }
    Ok(())
}

fn an_empty_or_nonsensical_value_is_refused_and_named(t: &Test) -> Outcome {
    for (key, value) in [
        ("size", ""),
        ("size", "%"),
        ("size", "8M%"),
        ("size", "-1"),
        ("nr_inodes", ""),
        ("nr_inodes", "-1"),
        ("mode", ""),
        ("uid", ""),
        ("gid", ""),
    ] {
        expect_named(t, key, Some(value))?;
    }
    Ok(())
}

fn an_unknown_option_is_refused_and_named(t: &Test) -> Outcome {
    for (key, value) in [
        ("bogus", Some("1")),
        ("bogus", None),
        ("sizes", Some("1M")),
        ("Size", Some("1M")),
    ] {
        expect_named(t, key, value)?;
    }
    Ok(())
}

fn an_option_that_lacks_its_value_is_refused_and_named(t: &Test) -> Outcome {
    for key in ["size", "nr_inodes", "mode", "uid", "gid"] {
        expect_named(t, key, None)?;
    }
    Ok(())
}

fn a_bad_option_of_the_old_mount_call_is_named_in_the_kernel_log(t: &Test) -> Outcome {
    let root = t.elsewhere.join("old");
    mkdir(&root, 0o755).or_fail("mkdir")?;
    for (options, named) in [
        ("size=1M,bogus=1", "bogus"),
        ("size=banana", "size"),
        ("mode=9,size=1M", "mode"),
        ("nr_inodes=many", "nr_inodes"),
        ("uid=nobody", "uid"),
    ] {
        let log = KernelLog::open();
        let mounted = mount(t.filesystem.name(), &root, 0, options);
        expect_errno(
            mounted,
            libc::EINVAL,
            format_args!("mount(2) with {options}"),
        )?;
        let news = log.news();
        expect(
            news.lines()
                .any(|l| l.contains(t.filesystem.name()) && l.contains(named)),
            format_args!("{options}: the kernel's log names {named}; it says: {news:?}"),
        )?;
    }
    Ok(())
}

fn mount_8_reports_a_bad_option(t: &Test) -> Outcome {
    use crate::process::{run_program, End};
    let root = t.elsewhere.join("tool");
    mkdir(&root, 0o755).or_fail("mkdir")?;
    let path = root.to_string_lossy();
    let name = t.filesystem.name();
    let run = |options: &str| {
        run_program(
            "/bin/mount".as_ref(),
            &["-t", name, "-o", options, "none", &path],
        )
    };
    let (end, _) = run("size=1M,mode=755")?;
    expect_eq(end, End::Exited(0), "mount(8) with good options")?;
    unmount(&root).or_fail("umount")?;
    let (end, _) = run("size=1M,bogus=1")?;
    expect(
        matches!(end, End::Exited(code) if code != 0),
        format_args!("mount(8) with a bad option: {end:?}"),
    )
}

fn a_refused_mount_leaves_nothing_behind(t: &Test) -> Outcome {
    let root = t.elsewhere.join("refused");
    mkdir(&root, 0o755).or_fail("mkdir")?;
    for _ in 0..t.rounds(20) {
        refusal(t, "bogus", Some("1"))?;
        let mounted = mount(t.filesystem.name(), &root, 0, "size=1M,mode=banana");
        expect_errno(mounted, libc::EINVAL, "mount(2) with a bad option")?;
    }
    expect_errno(unmount(&root), libc::EINVAL, "nothing is mounted there")?;
    t.mount(&[("size", "1M")])?.unmount()
}
