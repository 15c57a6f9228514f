// SPDX-License-Identifier: GPL-2.0 OR MIT
//! What forks take, that it is given back, and the limits of a family.

use super::contents::{fork, populate};
use crate::case::{case, Case, Test};
use crate::eviction::drop_caches;
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Outcome, Sys};
use crate::filesystem::FORKS;
use crate::instance::{Configuration, Instance};
use crate::mapping::Mapping;
use crate::pattern::{blocks, Random, BLOCK, BLOCK64};
use crate::sys::{chmod, clone_file, link, mkdir, rename, rmdir, symlink, unlink, File};
use crate::tests::failures::remove_names;
use crate::tests::xattr;

pub const CASES: &[Case] = &[
    case!(a_thousand_forks_in_a_row_leave_nothing).needs(FORKS),
    case!(a_chain_of_a_hundred_goes_in_any_order).needs(FORKS),
    case!(all_is_free_when_all_is_removed).needs(FORKS),
    case!(names_are_removed_at_the_limit_of_inodes).needs(FORKS),
    case!(copies_end_at_the_limit_of_inodes).needs(FORKS),
    case!(blocks_end_at_the_limit_of_size).needs(FORKS),
    case!(limits_below_what_is_used_are_refused).needs(FORKS),
];

fn a_thousand_forks_in_a_row_leave_nothing(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    populate(&base.root)?;
    let file = File::open(base.path("large"), libc::O_RDWR).or_fail("open")?;
    let map = Mapping::shared(&file, BLOCK)?;
    map.store(0, b"m");
    let before = base.space()?;
    for i in 0..t.rounds(1000) {
        let copy = fork(t, &base, "fork")?;
        if i % 2 == 0 {
            let file = File::open(copy.path("large"), libc::O_RDWR).or_fail("open")?;
            file.write_at(b"of the fork", (i % 70) as u64 * BLOCK64)?;
            rename(copy.path("dir/7"), copy.path("dir/seven")).or_fail("rename")?;
            chmod(&copy.root, 0o711).or_fail("chmod")?;
        }
        if i % 3 == 0 {
            map.store(1, &[i as u8]);
            chmod(base.path("dir"), 0o700 + i as u32 % 8).or_fail("chmod")?;
        }
        copy.unmount()?;
        rmdir(t.elsewhere.join("fork")).or_fail("rmdir")?;
        expect_eq(base.space()?, before, format_args!("space after fork {i}"))?;
    }
    Ok(())
}

fn a_chain_of_a_hundred_goes_in_any_order(t: &Test) -> Outcome {
    const LENGTH: usize = 100;
    for order in ["first", "last", "middle", "random"] {
        let base = t.mount_at(&format!("base, {order}"), &[])?;
        let empty = base.space()?;
        base.create_with("file", &blocks(1, LENGTH + 1))?;
        let mut random = Random::new(t.settings.seed);
        let mut chain = vec![(0, base)];
        for i in 1..=LENGTH {
            let next = fork(t, &chain[i - 1].1, &format!("fork {i}, {order}"))?;
            let file = File::open(next.path("file"), libc::O_RDWR).or_fail("open")?;
            file.write_at(&blocks(2, 1), i as u64 * BLOCK64)?;
            next.create(&format!("by {i}"))?;
            chain.push((i, next));
        }
        // Each has one block of its own.
        let used = chain[0].1.used()?;
        expect_eq(used, 2 * LENGTH as u64 + 1, "blocks in use")?;
        while chain.len() > 1 {
            let i = match order {
                "first" => 0,
                "last" => chain.len() - 1,
                "middle" => chain.len() / 2,
                _ => random.below(chain.len()),
            };
            chain.remove(i).1.unmount()?;
        }
        let (i, left) = chain.remove(0);
        let mut expected = blocks(1, LENGTH + 1);
        for changed in 1..=i {
            expected[changed * BLOCK..][..BLOCK].copy_from_slice(&blocks(2, 1));
        }
        let file = File::open(left.path("file"), libc::O_RDWR).or_fail("open")?;
        file.expect_contents(&expected, "what is left")?;
        drop(file);
        expect_eq(left.used()?, LENGTH as u64 + 1, "blocks of one")?;
        remove_names(&left.root)?;
        expect_eq(left.space()?, empty, format_args!("space, {order} first"))?;
        left.unmount()?;
    }
    Ok(())
}

/// Makes a change at random.
fn change(fs: &Instance, random: &mut Random) -> Sys {
    let name = |random: &mut Random| {
        let (dir, file) = (random.below(3), random.below(200));
        fs.path(&format!("dir{dir}/{file}"))
    };
    let (one, two) = (name(random), name(random));
    let open = |flags| File::open(&one, libc::O_RDWR | libc::O_NOFOLLOW | flags);
    match random.below(9) {
        0 | 1 => {
            let at = random.below(90) as u64 * BLOCK64;
            let written = open(libc::O_CREAT)?.try_pwrite(&blocks(1, 2), at);
            written.map(drop)
        }
        2 => symlink("target/".repeat(20), one),
        3 => link(one, two),
        4 => unlink(one),
        5 => rename(one, two),
        6 => xattr::set(one, "trusted.a", &random.bytes(2000), 0),
        7 => {
            let flags = libc::O_CREAT | libc::O_TRUNC | libc::O_RDWR;
            let to = File::open(fs.path("clone"), flags)?;
            clone_file(&open(0)?, &to)
        }
        _ => open(0)?.try_truncate(random.below(9 * BLOCK) as u64),
    }
}

fn all_is_free_when_all_is_removed(t: &Test) -> Outcome {
    let mut random = Random::new(t.settings.seed);
    for round in 0..t.rounds(4) {
        let base = t.mount_at(&format!("base {round}"), &[])?;
        let before = base.space()?;
        for i in 0..3 {
            mkdir(base.path(&format!("dir{i}")), 0o755).or_fail("mkdir")?;
        }
        let mut all = vec![base];
        for i in 0..1500 {
            let which = random.below(all.len());
            match change(&all[which], &mut random) {
                // Of names that are there, or not, or of symbolic links.
                Ok(()) | Err(Errno(libc::ENOENT | libc::EEXIST | libc::ELOOP)) => {}
                Err(error) => return Err(error).or_fail(format_args!("change {i}")),
            }
            if i % 150 == 0 {
                let next = fork(t, &all[which], &format!("fork {round} {i}"))?;
                all.push(next);
                drop_caches(t)?;
            }
            if i % 333 == 0 {
                let which = random.below(all.len());
                all.swap_remove(which).unmount()?;
            }
        }
        // Empties some of them before they are unmounted.
        while all.len() > 1 {
            let next = all.swap_remove(random.below(all.len()));
            if random.one_in(2) {
                remove_names(&next.root)?;
            }
            next.unmount()?;
        }
        remove_names(&all[0].root)?;
        expect_eq(
            all[0].space()?,
            before,
            format_args!("space, round {round}"),
        )?;
    }
    Ok(())
}

const LIMIT: usize = 1000;

/// How much room there is for copies above the limit of inodes.
const FOR_COPIES: usize = 1024;

fn names_are_removed_at_the_limit_of_inodes(t: &Test) -> Outcome {
    let base = t.mount(&[("nr_inodes", &LIMIT.to_string())])?;
    let before = base.space()?;
    for i in 0..LIMIT / 2 {
        base.create(&format!("{i}"))?;
    }
    let copies = [fork(t, &base, "one")?, fork(t, &base, "two")?];
    let mut made = 0;
    let result = loop {
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
        let to = &copies[made % 2];
        match File::open(to.path(&format!("new {made}")), flags) {
            Ok(_) => made += 1,
            Err(error) => break Err::<(), _>(error),
        }
        expect(made <= LIMIT, format_args!("{made} are made"))?;
    };
    expect_errno(result, libc::ENOSPC, "a new file at the limit")?;
    expect(made >= LIMIT / 4, format_args!("{made} are made"))?;
    for fs in copies.iter().chain([&base]) {
        for i in 0..LIMIT / 2 {
            unlink(fs.path(&format!("{i}"))).or_fail(format_args!("unlink {i}"))?;
        }
    }
    let again = copies[0].create("again");
    again.or_fail("a new file, when others are gone")?;
    let [one, two] = copies;
    one.unmount()?;
    two.unmount()?;
    expect_eq(base.space()?, before, "when the forks are gone")
}

fn copies_end_at_the_limit_of_inodes(t: &Test) -> Outcome {
    const FILES: usize = 400;
    let base = t.mount(&[("nr_inodes", &LIMIT.to_string())])?;
    for i in 0..FILES {
        base.create(&format!("{i}"))?;
    }
    let before = base.space()?;
    let mut copies = Vec::new();
    let mut changed = 0;
    let result = 'all: loop {
        let copy = fork(t, &base, &format!("fork {}", copies.len()))?;
        copies.push(copy);
        let copy = &copies[copies.len() - 1];
        for i in 0..FILES {
            match chmod(copy.path(&format!("{i}")), 0o600) {
                Ok(()) => changed += 1,
                Err(error) => break 'all Err::<(), _>(error),
            }
        }
        expect(
            FILES + changed <= LIMIT + FOR_COPIES,
            format_args!("{changed} copies are made"),
        )?;
    };
    expect_errno(result, libc::ENOSPC, "a copy at the limit")?;
    let most = LIMIT + FOR_COPIES;
    expect(
        (LIMIT..=most).contains(&(FILES + changed)),
        format_args!("{changed} copies of {FILES} files, at a limit of {LIMIT}"),
    )?;
    expect_eq(base.space()?.free_inodes, 0, "free inodes")?;
    let create = File::open(base.path("new"), libc::O_CREAT | libc::O_RDWR);
    expect_errno(create, libc::ENOSPC, "a new file")?;
    // What was refused has changed nothing, and what was changed can be changed again.
    let last = &copies[copies.len() - 1];
    let mode = |i: usize| crate::sys::lstat(last.path(&format!("{i}"))).map(|s| s.st_mode & 0o777);
    expect_eq(mode(FILES - 1), Ok(0o644), "the mode of what was refused")?;
    chmod(copies[0].path("0"), 0o640).or_fail("chmod of what was copied")?;
    // A fork takes none.
    fork(t, last, "one more")?.unmount()?;
    while let Some(copy) = copies.pop() {
        copy.unmount()?;
    }
    expect_eq(base.space()?, before, "when the forks are gone")
}

fn blocks_end_at_the_limit_of_size(t: &Test) -> Outcome {
    const BLOCKS: u64 = 256;
    let base = t.mount(&[("size", "1M")])?;
    let data = blocks(1, BLOCKS as usize / 2);
    base.create_with("file", &data)?;
    let before = base.space()?;
    let copies = [fork(t, &base, "one")?, fork(t, &base, "two")?];
    let mut written = 0;
    'all: for at in 0.. {
        for copy in &copies {
            let file = File::open(copy.path("file"), libc::O_RDWR).or_fail("open")?;
            match file.try_pwrite(&blocks(2, 1), at * BLOCK64) {
                Ok(n) => expect_eq(n, BLOCK, "bytes written")?,
                Err(Errno(libc::ENOSPC)) => break 'all,
                Err(error) => return Err(error).or_fail("pwrite"),
            }
            written += 1;
            expect(written <= BLOCKS / 2, format_args!("{written} written"))?;
        }
    }
    expect_eq(written, BLOCKS / 2, "blocks written")?;
    expect_eq(base.space()?.free, 0, "free blocks")?;
    let file = File::open(base.path("file"), libc::O_RDWR).or_fail("open")?;
    file.expect_contents(&data, "the base")?;
    let refused = file.try_pwrite(b"x", 100 * BLOCK64);
    expect_errno(refused, libc::ENOSPC, "a write to the base")?;
    // What is one's own is written in place: in the base, what both forks have replaced.
    file.write_at(b"in place", 5)?;
    let own = File::open(copies[0].path("file"), libc::O_RDWR).or_fail("open")?;
    own.write_at(b"in place", 5)?;
    drop(own);
    fork(t, &copies[1], "one more")?.unmount()?;
    // A file that all have gives nothing back before the last has removed it.
    unlink(copies[0].path("file")).or_fail("unlink")?;
    expect_eq(base.space()?.free, BLOCKS / 4, "the fork's own blocks")?;
    drop(file);
    let [one, two] = copies;
    one.unmount()?;
    two.unmount()?;
    expect_eq(base.space()?, before, "when the forks are gone")
}

fn limits_below_what_is_used_are_refused(t: &Test) -> Outcome {
    let base = t.mount(&[("size", "1M"), ("nr_inodes", "100")])?;
    base.create_with("file", &blocks(1, 20))?;
    let copy = fork(t, &base, "fork")?;
    // The fork's blocks and copies count, too.
    let file = File::open(copy.path("file"), libc::O_RDWR).or_fail("open")?;
    file.write_at(&blocks(2, 20), 0)?;
    for i in 0..30 {
        copy.create(&format!("{i}"))?;
    }
    let before = base.space()?;
    let path = base.root.to_string_lossy().into_owned();
    let too_small = [("size", "100k"), ("nr_inodes", "25"), ("size", "156k")];
    for (key, value) in too_small {
        for others in [&[][..], &[("mode", "0700")], &[("nr_inodes", "200")]] {
            let what = format!("{key}={value} with {others:?}");
            let configuration = Configuration::open(t.filesystem.name()).or_fail("fsopen")?;
            let given = others
                .iter()
                .filter(|other| other.0 != key)
                .chain([&("fork", path.as_str()), &(key, value)])
                .try_for_each(|(key, value)| configuration.set(key, value));
            given.or_fail(&what)?;
            expect_errno(configuration.create(), libc::EINVAL, &what)?;
            for fs in [&base, &copy] {
                expect_eq(fs.space()?, before, &what)?;
            }
        }
        for fs in [&base, &copy] {
            let refused = fs.reconfigure(&[(key, value)]).map_err(|(error, _)| error);
            expect_errno(refused, libc::EINVAL, format_args!("remount {key}={value}"))?;
            expect_eq(base.space()?, before, "after a remount")?;
        }
    }
    let fits = t.mount_at("fits", &[("fork", &path), ("size", "160k")])?;
    expect_eq(fits.space()?.blocks, 40, "blocks")?;
    expect_eq(base.space()?.free, 0, "free blocks")
}
