// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Listing directories while they change.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::rename_flags;
use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome, Sys};
#[cfg(target_arch = "x86_64")]
use crate::filesystem::Feature;
use crate::filesystem::{Btrfs, Tmpfs, Xfs};
use crate::sys::{check, link, lstat, mkdir, rename, rmdir, symlink, unlink, File};

pub const CASES: &[Case] = &[
    case!(an_empty_directory_has_dot_and_dot_dot),
    case!(every_entry_is_listed_once_with_its_type_and_number),
    case!(small_buffers_list_everything_too),
    case!(a_buffer_too_small_for_an_entry_is_einval),
    case!(a_cookie_leads_back_to_the_same_place),
    case!(entries_that_stay_are_listed_once_while_others_come_and_go),
    case!(a_cookie_of_a_removed_entry_still_leads_on),
    case!(entries_removed_before_they_are_reached_are_not_listed)
        .except(Btrfs, "lists the entries at the start of a batch"),
    case!(rewinding_shows_new_entries),
    case!(what_is_made_before_the_first_read_is_listed)
        .except(Btrfs, "lists the entries at the time of opening"),
    case!(a_directory_can_be_emptied_while_it_is_listed),
    case!(a_listing_of_new_entries_ends).except(Xfs, "lists new entries as long as they are made"),
    case!(renames_while_listing_lose_nothing_that_stays),
    case!(a_name_that_is_replaced_while_listing_is_listed)
        .except(Btrfs, "gives what replaces it a place at the end")
        .except(Tmpfs, "lists what replaces it twice, under its new name"),
    case!(a_whiteout_is_listed_in_the_place_of_what_moved)
        .except(Btrfs, "gives it a place at the end")
        .except(Tmpfs, "gives it a place at the end"),
    case!(a_removed_directory_lists_nothing),
    case!(seeking_in_a_directory_refuses_what_it_must),
    case!(listing_a_file_is_enotdir),
    case!(two_descriptors_list_independently),
    case!(listing_races_with_creation_and_removal),
    case!(a_large_directory_is_listed),
    #[cfg(target_arch = "x86_64")]
    case!(a_32_bit_program_lists_with_positions_of_31_bits).needs(&[Feature::CompatCalls]),
];

/// One entry of getdents64.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub name: Vec<u8>,
    pub number: u64,
    pub kind: u8,
    /// The offset of the entry after this one.
    pub next: i64,
}

fn getdents(dir: &File, room: usize) -> Sys<Vec<Entry>> {
    let mut buffer = vec![0u64; room.div_ceil(8)];
    // SAFETY: the buffer has at least `room` bytes.
    let len = check(unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            dir.as_raw_fd(),
            buffer.as_mut_ptr(),
            room,
        )
    })?;
    let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    Ok(entries(&bytes[..len]))
}

/// As `getdents`, by the way on which 32-bit programs enter the kernel.
#[cfg(target_arch = "x86_64")]
fn getdents_32(dir: &File, room: usize) -> Outcome<Vec<Entry>> {
    const SYS_GETDENTS64: i32 = 220;
    // SAFETY: a new mapping, of which nothing else knows; its address fits into 32 bits.
    let buffer = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            room,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
            -1,
            0,
        )
    };
    expect(buffer != libc::MAP_FAILED, "mmap")?;
    let len: i32;
    // SAFETY: the call stores at most `room` bytes to the mapping. What LLVM keeps in rbx is put
    // back.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {dir}",
            "int 0x80",
            "xchg rbx, {dir}",
            dir = inout(reg) dir.as_raw_fd() as u64 => _,
            inlateout("eax") SYS_GETDENTS64 => len,
            in("ecx") buffer as usize as u32,
            in("edx") room as u32,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        );
    }
    // SAFETY: the kernel has stored that many bytes; the mapping is unmapped once.
    let found = unsafe {
        let bytes = std::slice::from_raw_parts(buffer.cast::<u8>(), len.max(0) as usize).to_vec();
        libc::munmap(buffer, room);
        bytes
    };
    expect(len >= 0, format_args!("getdents64 by int 0x80: {len}"))?;
    Ok(entries(&found))
}

/// Returns the entries that getdents64 has stored.
fn entries(bytes: &[u8]) -> Vec<Entry> {
    let len = bytes.len();
    let mut entries = Vec::new();
    let mut at = 0;
    while at < len {
        let word = |from: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at + from..at + from + 8]);
            u64::from_ne_bytes(word)
        };
        let record = usize::from(u16::from_ne_bytes([bytes[at + 16], bytes[at + 17]]));
        let name = &bytes[at + 19..at + record];
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        entries.push(Entry {
            name: name[..end].to_vec(),
            number: word(0),
            kind: bytes[at + 18],
            next: word(8) as i64,
        });
        at += record;
    }
    entries
}

/// Returns all entries from the current position on.
pub(super) fn rest(dir: &File, room: usize) -> Outcome<Vec<Entry>> {
    let mut entries = Vec::new();
    loop {
        let more = getdents(dir, room).or_fail(format_args!("getdents64 with {room} bytes"))?;
        if more.is_empty() {
            return Ok(entries);
        }
        entries.extend(more);
        expect(entries.len() < 1_000_000, "a listing ends")?;
    }
}

pub(super) fn open(path: impl AsRef<Path>) -> Outcome<File> {
    File::open(path, libc::O_RDONLY | libc::O_DIRECTORY).or_fail("open of a directory")
}

pub(super) fn seek(dir: &File, cookie: i64) -> Outcome {
    dir.seek(cookie, libc::SEEK_SET)
        .or_fail(format_args!("lseek to {cookie}"))?;
    Ok(())
}

/// Returns the names, without the dots, and how often each was listed.
fn names(entries: &[Entry]) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for entry in entries {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        if name != "." && name != ".." {
            *names.entry(name).or_default() += 1;
        }
    }
    names
}

fn fill(t: &Test, count: usize) -> Outcome {
    for i in 0..count {
        t.create(&format!("f{i:04}"))?;
    }
    Ok(())
}

fn expect_once(listed: &BTreeMap<String, usize>, name: &str) -> Outcome {
    let times = listed.get(name).copied().unwrap_or(0);
    expect_eq(
        times,
        1,
        format_args!("how often {name}, which stays, is listed"),
    )
}

fn an_empty_directory_has_dot_and_dot_dot(t: &Test) -> Outcome {
    let path = t.mkdir("dir")?;
    let entries = rest(&open(&path)?, 4096)?;
    let names: Vec<_> = entries.iter().map(|e| e.name.as_slice()).collect();
    expect_eq(names, [b".".as_slice(), b".."], "names")?;
    expect(
        entries.iter().all(|e| e.kind == libc::DT_DIR),
        "both are directories",
    )?;
    let number = |path: &Path| lstat(path).or_fail("lstat").map(|stat| stat.st_ino);
    expect_eq(entries[0].number, number(&path)?, "inode number of .")?;
    expect_eq(entries[1].number, number(&t.dir)?, "inode number of ..")
}

fn every_entry_is_listed_once_with_its_type_and_number(t: &Test) -> Outcome {
    t.create("file")?;
    t.mkdir("dir")?;
    symlink("file", t.path("symlink")).or_fail("symlink")?;
    link(t.path("file"), t.path("link")).or_fail("link")?;
    t.create(&"n".repeat(255))?;
    let entries = rest(&open(&t.dir)?, 4096)?;
    let listed = names(&entries);
    expect_eq(listed.len(), 5, "entries")?;
    for entry in entries.iter().filter(|e| !e.name.starts_with(b".")) {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        expect_once(&listed, &name)?;
        let stat = lstat(t.path(&name)).or_fail("lstat")?;
        expect_eq(
            entry.number,
            stat.st_ino,
            format_args!("inode number of {name}"),
        )?;
        let kind = (stat.st_mode >> 12) as u8;
        expect_eq(entry.kind, kind, format_args!("type of {name}"))?;
    }
    Ok(())
}

fn small_buffers_list_everything_too(t: &Test) -> Outcome {
    fill(t, 100)?;
    let whole = names(&rest(&open(&t.dir)?, 65536)?);
    expect_eq(whole.len(), 100, "entries listed with a large buffer")?;
    for room in [32, 48, 100, 512, 4096] {
        let listed = names(&rest(&open(&t.dir)?, room)?);
        expect_eq(
            &listed,
            &whole,
            format_args!("listed with {room} bytes a call"),
        )?;
    }
    Ok(())
}

fn a_buffer_too_small_for_an_entry_is_einval(t: &Test) -> Outcome {
    let name = "n".repeat(200);
    t.create(&name)?;
    let dir = open(&t.dir)?;
    expect_errno(getdents(&dir, 16), libc::EINVAL, "getdents64 with 16 bytes")?;
    // The dots fit one by one, the long name does not; trying loses nothing.
    let mut seen = Vec::new();
    let refused = loop {
        match getdents(&dir, 64) {
            Ok(entries) if entries.is_empty() => break Ok(()),
            Ok(entries) => seen.extend(entries),
            Err(error) => break Err(error),
        }
    };
    expect_errno(
        refused,
        libc::EINVAL,
        "getdents64 with 64 bytes at a name of 200",
    )?;
    seen.extend(rest(&dir, 4096)?);
    expect_once(&names(&seen), &name)
}

fn a_cookie_leads_back_to_the_same_place(t: &Test) -> Outcome {
    fill(t, 40)?;
    let dir = open(&t.dir)?;
    let all = rest(&dir, 4096)?;
    expect_eq(names(&all).len(), 40, "entries")?;
    for (i, entry) in all.iter().enumerate() {
        seek(&dir, entry.next)?;
        let from_here = rest(&dir, 4096)?;
        let listed = from_here.iter().map(|e| e.name.clone());
        let expected = all[i + 1..].iter().map(|e| e.name.clone());
        expect(
            listed.eq(expected),
            format_args!(
                "from the cookie of entry {i}, {} are listed",
                from_here.len()
            ),
        )?;
    }
    Ok(())
}

fn entries_that_stay_are_listed_once_while_others_come_and_go(t: &Test) -> Outcome {
    fill(t, 120)?;
    for room in [64, 200, 4096] {
        let dir = open(&t.dir)?;
        let mut seen = Vec::new();
        let mut round = 0;
        loop {
            let more = getdents(&dir, room).or_fail("getdents64")?;
            if more.is_empty() {
                break;
            }
            seen.extend(more);
            // Names that come and go: before, between and behind the others.
            let (made, removed) = (format!("x{round:04}"), format!("x{:04}", round - 2));
            t.create(&made)?;
            if round >= 2 {
                unlink(t.path(&removed)).or_fail("unlink")?;
            }
            round += 1;
            expect(round < 5000, "the listing ends")?;
        }
        let listed = names(&seen);
        for i in 0..120 {
            expect_once(&listed, &format!("f{i:04}"))?;
        }
        expect(
            listed.values().all(|&times| times == 1),
            "no entry is listed twice",
        )?;
        for i in 0.max(round - 2)..round {
            unlink(t.path(&format!("x{i:04}"))).or_fail("unlink")?;
        }
    }
    Ok(())
}

fn a_cookie_of_a_removed_entry_still_leads_on(t: &Test) -> Outcome {
    fill(t, 60)?;
    let dir = open(&t.dir)?;
    let all = rest(&dir, 4096)?;
    // Removes the middle, and continues from offsets that were returned inside it.
    for entry in &all[20..40] {
        unlink(t.path(&String::from_utf8_lossy(&entry.name))).or_fail("unlink")?;
    }
    for i in [19, 20, 30, 39] {
        seek(&dir, all[i].next)?;
        let listed = names(&rest(&dir, 4096)?);
        for entry in &all[40.max(i + 1)..] {
            expect_once(&listed, &String::from_utf8_lossy(&entry.name))?;
        }
        for entry in &all[2..=i.min(19)] {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            let what = format!("{name}, which is before the offset, is not listed");
            expect(!listed.contains_key(&name), what)?;
        }
    }
    Ok(())
}

fn entries_removed_before_they_are_reached_are_not_listed(t: &Test) -> Outcome {
    fill(t, 300)?;
    let dir = open(&t.dir)?;
    let first = names(&getdents(&dir, 512).or_fail("getdents64")?);
    for i in 0..300 {
        let name = format!("f{i:04}");
        if !first.contains_key(&name) {
            unlink(t.path(&name)).or_fail("unlink")?;
        }
    }
    let later = names(&rest(&dir, 512)?);
    // A filesystem may have read a little ahead.
    expect(
        later.len() < 280,
        format_args!("{} removed entries are listed", later.len()),
    )?;
    seek(&dir, 0)?;
    expect_eq(names(&rest(&dir, 512)?), first, "listed from the start")
}

fn rewinding_shows_new_entries(t: &Test) -> Outcome {
    t.create("old")?;
    let dir = open(&t.dir)?;
    expect_eq(names(&rest(&dir, 4096)?).len(), 1, "entries at first")?;
    t.create("new")?;
    unlink(t.path("old")).or_fail("unlink")?;
    seek(&dir, 0)?;
    let entries = rest(&dir, 4096)?;
    expect_eq(entries.len(), 3, "entries with the dots, after rewinding")?;
    expect_once(&names(&entries), "new")
}

fn what_is_made_before_the_first_read_is_listed(t: &Test) -> Outcome {
    let dir = open(&t.dir)?;
    t.create("after-open")?;
    let entries = rest(&dir, 4096)?;
    expect_once(&names(&entries), "after-open")?;
    // Likewise after rewinding.
    seek(&dir, 0)?;
    t.create("after-rewinding")?;
    expect_once(&names(&rest(&dir, 4096)?), "after-rewinding")?;
    // Also if the first read is not at the start.
    let other = open(&t.dir)?;
    seek(&other, entries[0].next)?;
    t.create("after-seeking")?;
    let listed = names(&rest(&other, 4096)?);
    let made = ["after-open", "after-rewinding", "after-seeking"];
    made.iter().try_for_each(|name| expect_once(&listed, name))
}

fn a_directory_can_be_emptied_while_it_is_listed(t: &Test) -> Outcome {
    // As rm -r does it.
    let path = t.mkdir("dir")?;
    for i in 0..200 {
        File::create(path.join(format!("file-{i}")))?;
    }
    let dir = open(&path)?;
    loop {
        let entries = getdents(&dir, 300).or_fail("getdents64")?;
        if entries.is_empty() {
            break;
        }
        for name in names(&entries).keys() {
            unlink(path.join(name)).or_fail(format_args!("unlink {name}"))?;
        }
    }
    rmdir(&path).or_fail("rmdir after everything listed was removed")
}

fn a_listing_of_new_entries_ends(t: &Test) -> Outcome {
    // A directory that gains a file for each listed one must not keep its reader forever.
    fill(t, 50)?;
    let dir = open(&t.dir)?;
    for round in 0..3000 {
        let entries = getdents(&dir, 48).or_fail("getdents64")?;
        if entries.is_empty() {
            return Ok(());
        }
        t.create(&format!("new-{round}"))?;
    }
    expect(
        false,
        "the listing did not end after 3000 calls, each with a new entry",
    )
}

fn renames_while_listing_lose_nothing_that_stays(t: &Test) -> Outcome {
    fill(t, 100)?;
    let dir = open(&t.dir)?;
    let mut seen = Vec::new();
    let mut number = 0;
    loop {
        let more = getdents(&dir, 150).or_fail("getdents64")?;
        if more.is_empty() {
            break;
        }
        seen.extend(more);
        let (from, to) = (format!("f{:04}", 99 - number % 20), format!("r{number:04}"));
        let back =
            rename(t.path(&from), t.path(&to)).and_then(|()| rename(t.path(&to), t.path(&from)));
        back.or_fail("rename there and back")?;
        number += 1;
        expect(number < 2000, "the listing ends")?;
    }
    let listed = names(&seen);
    (0..80).try_for_each(|i| expect_once(&listed, &format!("f{i:04}")))
}

/// As an editor replaces a file: a file of this name exists all the time.
fn a_name_that_is_replaced_while_listing_is_listed(t: &Test) -> Outcome {
    fill(t, 100)?;
    let elsewhere = t.mkdir("elsewhere")?;
    let dir = open(&t.dir)?;
    let mut seen = getdents(&dir, 150).or_fail("getdents64")?;
    for i in (0..100).filter(|i| !names(&seen).contains_key(&format!("f{i:04}"))) {
        let new = match i % 2 {
            0 => t.path("new"),
            _ => elsewhere.join("new"),
        };
        File::open(&new, libc::O_CREAT | libc::O_WRONLY).or_fail("a new file")?;
        rename(&new, t.path(&format!("f{i:04}"))).or_fail("replacing")?;
    }
    seen.extend(rest(&dir, 150)?);
    let listed = names(&seen);
    (0..100).try_for_each(|i| expect_once(&listed, &format!("f{i:04}")))
}

/// An entry of each name exists all the time: overlayfs would show the lower one otherwise.
fn a_whiteout_is_listed_in_the_place_of_what_moved(t: &Test) -> Outcome {
    fill(t, 100)?;
    let elsewhere = t.mkdir("elsewhere")?;
    let dir = open(&t.dir)?;
    let mut seen = getdents(&dir, 150).or_fail("getdents64")?;
    for i in (0..100).filter(|i| !names(&seen).contains_key(&format!("f{i:04}"))) {
        let name = format!("f{i:04}");
        let to = match i % 2 {
            0 => t.path(&format!("moved-{i}")),
            _ => elsewhere.join(&name),
        };
        rename_flags::rename(t.path(&name), to, rename_flags::WHITEOUT).or_fail("rename")?;
    }
    seen.extend(rest(&dir, 150)?);
    let listed = names(&seen);
    (0..100).try_for_each(|i| expect_once(&listed, &format!("f{i:04}")))
}

fn a_removed_directory_lists_nothing(t: &Test) -> Outcome {
    let path = t.mkdir("dir")?;
    let dir = open(&path)?;
    rmdir(&path).or_fail("rmdir")?;
    match getdents(&dir, 4096) {
        Ok(entries) => expect_eq(names(&entries).len(), 0, "entries of a removed directory"),
        refused => expect_errno(refused, libc::ENOENT, "listing a removed directory"),
    }
}

fn seeking_in_a_directory_refuses_what_it_must(t: &Test) -> Outcome {
    fill(t, 5)?;
    let dir = open(&t.dir)?;
    expect_errno(dir.seek(-1, libc::SEEK_SET), libc::EINVAL, "lseek to -1")?;
    rest(&dir, 4096)?;
    expect_eq(rest(&dir, 4096)?.len(), 0, "entries behind the end")?;
    seek(&dir, 0)?;
    expect_eq(
        names(&rest(&dir, 4096)?).len(),
        5,
        "entries after rewinding",
    )
}

fn listing_a_file_is_enotdir(t: &Test) -> Outcome {
    let file = t.create("file")?;
    expect_errno(getdents(&file, 4096), libc::ENOTDIR, "getdents64 of a file")
}

fn two_descriptors_list_independently(t: &Test) -> Outcome {
    fill(t, 50)?;
    let (one, other) = (open(&t.dir)?, open(&t.dir)?);
    let mut first = getdents(&one, 200).or_fail("getdents64")?;
    let whole = names(&rest(&other, 4096)?);
    first.extend(rest(&one, 200)?);
    expect_eq(names(&first), whole, "what both list")
}

fn listing_races_with_creation_and_removal(t: &Test) -> Outcome {
    fill(t, 30)?;
    mkdir(t.path("sub"), 0o755).or_fail("mkdir")?;
    let churn = |from: usize| {
        let mut i = from;
        move || {
            let name = t.path(&format!("churn-{}", i % 50 + from));
            i += 1;
            if lstat(&name).is_ok() {
                unlink(&name).or_fail("unlink")
            } else {
                File::create(&name).map(|_| ())
            }
        }
    };
    let list = |room| {
        move || {
            let listed = names(&rest(&open(&t.dir)?, room)?);
            (0..30).try_for_each(|i| expect_once(&listed, &format!("f{i:04}")))?;
            expect_once(&listed, "sub")
        }
    };
    t.race(vec![
        worker("comes and goes", churn(1000)),
        worker("comes and goes too", churn(2000)),
        worker("lists in small pieces", list(100)),
        worker("lists in large pieces", list(8192)),
    ])
}

fn a_large_directory_is_listed(t: &Test) -> Outcome {
    let count = t.rounds(3000);
    fill(t, count)?;
    let dir = open(&t.dir)?;
    let listed = names(&rest(&dir, 32768)?);
    expect_eq(listed.len(), count, "entries listed")?;
    for i in (0..count).step_by(3) {
        unlink(t.path(&format!("f{i:04}"))).or_fail("unlink")?;
    }
    seek(&dir, 0)?;
    expect_eq(
        names(&rest(&dir, 1024)?).len(),
        count - count.div_ceil(3),
        "after removals",
    )
}

#[cfg(target_arch = "x86_64")]
fn a_32_bit_program_lists_with_positions_of_31_bits(t: &Test) -> Outcome {
    fill(t, 500)?;
    let dir = open(&t.dir)?;
    let mut all = Vec::new();
    loop {
        let more = getdents_32(&dir, 4096)?;
        if more.is_empty() {
            break;
        }
        all.extend(more);
        expect(all.len() < 10_000, "a listing ends")?;
    }
    expect_eq(names(&all).len(), 500, "names listed")?;
    // Its C library refuses positions that do not fit into its off_t.
    for entry in &all {
        expect(
            (0..1 << 31).contains(&entry.next),
            format_args!("position {:#x}", entry.next),
        )?;
    }
    for i in [0, 1, 2, 100, 400, 501] {
        seek(&dir, all[i].next)?;
        let next = getdents_32(&dir, 4096)?;
        let expected = all.get(i + 1).map(|entry| entry.name.clone());
        expect_eq(
            next.first().map(|entry| entry.name.clone()),
            expected,
            format_args!("behind entry {i}"),
        )?;
    }
    Ok(())
}
