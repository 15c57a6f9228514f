// SPDX-License-Identifier: GPL-2.0 OR MIT
//! splice(2), sendfile(2), vmsplice(2) and tee(2): every byte through pipes is right.

use std::os::fd::AsRawFd;

use super::races::contents::appends;
use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, expect_errno, Context, Outcome, Sys};
use crate::filesystem::Feature;
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::process::{count_signals, limit_file_size, signals_seen};
use crate::sys::{check, new_clone, pipe, read_all, unlink, write_all, File};
use crate::wait::eventually;

pub const CASES: &[Case] = &[
    case!(a_file_goes_into_a_pipe_from_any_offset),
    case!(a_pipe_goes_into_a_file_at_any_offset),
    case!(positions_move_where_no_offset_is_given),
    case!(nothing_comes_from_behind_the_end),
    case!(a_hole_goes_into_a_pipe_as_zeros),
    case!(the_last_partial_block_ends_where_the_file_ends),
    case!(an_appending_file_is_einval_for_splice),
    case!(sendfile_copies_between_files),
    case!(sendfile_moves_the_position_or_the_offset),
    case!(sendfile_to_a_socket_and_back_is_right),
    case!(bytes_in_a_pipe_survive_the_file),
    case!(bytes_in_a_pipe_are_not_changed_by_a_clones_write).needs(&[Feature::Reflink]),
    case!(bytes_in_a_pipe_are_not_taken_over_by_the_file),
    case!(tee_gives_two_of_the_same),
    case!(vmsplice_of_a_mapping_gives_its_bytes),
    case!(a_pipe_of_mapped_pages_survives_a_clone).needs(&[Feature::Reflink]),
    case!(a_chain_of_pipes_copies_a_file),
    case!(splice_keeps_the_size_limit_of_a_process),
    case!(splice_into_a_full_filesystem_is_enospc).needs(&[Feature::Instance]),
    case!(splice_races_with_writes_and_truncation),
    case!(what_is_spliced_while_a_file_grows_is_what_was_written),
    case!(space_held_by_a_pipe_comes_back).needs(&[Feature::Instance]),
];

pub fn splice(
    from: &impl AsRawFd,
    off_in: Option<&mut i64>,
    to: &impl AsRawFd,
    off_out: Option<&mut i64>,
    len: usize,
) -> Sys<usize> {
    let pointer = |offset: Option<&mut i64>| offset.map_or(std::ptr::null_mut(), |o| o as *mut i64);
    // SAFETY: the offsets are NULL or valid for the call.
    check(unsafe {
        let (off_in, off_out) = (pointer(off_in), pointer(off_out));
        libc::splice(
            from.as_raw_fd(),
            off_in,
            to.as_raw_fd(),
            off_out,
            len,
            libc::SPLICE_F_MOVE,
        )
    } as i64)
}

fn sendfile(
    to: &impl AsRawFd,
    from: &impl AsRawFd,
    offset: Option<&mut i64>,
    len: usize,
) -> Sys<usize> {
    let pointer = offset.map_or(std::ptr::null_mut(), |o| o as *mut i64);
    // SAFETY: the offset is NULL or valid for the call.
    check(unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), pointer, len) } as i64)
}

pub(super) fn vmsplice(to: &impl AsRawFd, from: *mut u8, len: usize) -> Sys<usize> {
    let vector = libc::iovec {
        iov_base: from.cast(),
        iov_len: len,
    };
    // SAFETY: the kernel checks the memory itself.
    check(unsafe { libc::vmsplice(to.as_raw_fd(), &vector, 1, 0) } as i64)
}

/// Splices up to `len` bytes of a file into a new pipe, as many as fit. Returns them.
fn through_a_pipe(file: &File, offset: u64, len: usize) -> Outcome<Vec<u8>> {
    let (output, input) = pipe()?;
    let mut at = offset as i64;
    let n = splice(file, Some(&mut at), &input, None, len).or_fail("splice to a pipe")?;
    expect_eq(at as u64, offset + n as u64, "the offset afterwards")?;
    drop(input);
    read_all(&output, n + 1)
}

fn a_file_goes_into_a_pipe_from_any_offset(t: &Test) -> Outcome {
    let data = pattern(1, 10 * BLOCK + 99);
    let file = t.create_with("file", &data)?;
    for offset in [0, 1, 100, 4095, 4096, 4097, 20_000, data.len() - 1] {
        for len in [1, 100, 4096, 4097, 12_288, 40_000] {
            let seen = through_a_pipe(&file, offset as u64, len)?;
            let expected = &data[offset..(offset + len).min(data.len())];
            let what = format!("{len} bytes at {offset}");
            expect(!seen.is_empty(), format_args!("{what}: something came"))?;
            // A pipe has room for 16 pages; the bytes up to there must be right and complete.
            expect_bytes(&seen, &expected[..seen.len().min(expected.len())], what)?;
            expect(
                seen.len() == expected.len() || seen.len() >= 8 * BLOCK,
                "enough came",
            )?;
        }
    }
    Ok(())
}

fn a_pipe_goes_into_a_file_at_any_offset(t: &Test) -> Outcome {
    let data = pattern(2, 3 * BLOCK + 50);
    for offset in [0, 1, 4095, 4096, 10_000] {
        for existing in [0, 8 * BLOCK] {
            let mut model = blocks(3, 8)[..existing].to_vec();
            let file = t.create_with("file", &model)?;
            let (output, input) = pipe()?;
            write_all(&input, &data)?;
            drop(input);
            let mut at = offset as i64;
            loop {
                let n = splice(&output, None, &file, Some(&mut at), 1 << 20).or_fail("splice")?;
                if n == 0 {
                    break;
                }
            }
            let end = offset + data.len();
            expect_eq(at as usize, end, "the offset afterwards")?;
            model.resize(model.len().max(end), 0);
            model[offset..end].copy_from_slice(&data);
            file.expect_contents(&model, &format!("a pipe at {offset}"))?;
        }
    }
    Ok(())
}

fn positions_move_where_no_offset_is_given(t: &Test) -> Outcome {
    let data = pattern(4, 9000);
    let file = t.create_with("file", &data)?;
    let to = t.create("to")?;
    let (output, input) = pipe()?;
    file.seek(10, libc::SEEK_SET).or_fail("lseek")?;
    let n = splice(&file, None, &input, None, 5000).or_fail("splice to a pipe")?;
    expect_eq(file.position()?, 10 + n as u64, "position of the source")?;
    let mut moved = 0;
    while moved < n {
        moved += splice(&output, None, &to, None, n - moved).or_fail("splice from a pipe")?;
    }
    expect_eq(to.position()?, n as u64, "position of the destination")?;
    to.expect_contents(&data[10..10 + n], "through a pipe")
}

fn nothing_comes_from_behind_the_end(t: &Test) -> Outcome {
    let file = t.create_with("file", &pattern(5, 5000))?;
    for offset in [5000, 5001, 8192, 1 << 40] {
        let seen = through_a_pipe(&file, offset, 100)?;
        expect_eq(seen.len(), 0, format_args!("bytes from {offset}"))?;
    }
    let (_output, input) = pipe()?;
    let mut negative = -1;
    let refused = splice(&file, Some(&mut negative), &input, None, 10);
    expect_errno(refused, libc::EINVAL, "splice from -1")
}

fn a_hole_goes_into_a_pipe_as_zeros(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(6 * BLOCK64)?;
    file.write_at(b"middle", 2 * BLOCK64 + 5)?;
    let expected = file.contents()?;
    let seen = through_a_pipe(&file, 0, 6 * BLOCK)?;
    expect_bytes(&seen, &expected[..seen.len()], "a hole through a pipe")?;
    expect(seen.len() >= 3 * BLOCK, "the data in it came along")?;
    let blocks = file.seek(0, libc::SEEK_DATA).or_fail("SEEK_DATA")?;
    expect_eq(blocks, 2 * BLOCK64, "the hole is still one")
}

fn the_last_partial_block_ends_where_the_file_ends(t: &Test) -> Outcome {
    let data = pattern(6, BLOCK + 10);
    let file = t.create_with("file", &data)?;
    let map = Mapping::shared(&file, 2 * BLOCK)?;
    map.store(BLOCK + 50, b"behind the end");
    expect_bytes(&through_a_pipe(&file, 0, 1 << 20)?, &data, "all of a file")
}

fn an_appending_file_is_einval_for_splice(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let append = file.reopen(libc::O_WRONLY | libc::O_APPEND)?;
    let (output, input) = pipe()?;
    write_all(&input, b"more")?;
    let refused = splice(&output, None, &append, None, 4);
    expect_errno(refused, libc::EINVAL, "splice to a file with O_APPEND")?;
    file.expect_contents(b"data", "the file")
}

fn sendfile_copies_between_files(t: &Test) -> Outcome {
    let data = pattern(7, 50 * BLOCK + 7);
    let from = t.create_with("from", &data)?;
    let elsewhere = t.create_elsewhere("elsewhere", &data)?;
    for (what, source) in [
        ("this filesystem", &from),
        ("another filesystem", &elsewhere),
    ] {
        let to = t.create("to")?;
        let mut offset = 0;
        while (offset as usize) < data.len() {
            let n = sendfile(&to, source, Some(&mut offset), 1 << 20).or_fail("sendfile")?;
            expect(n > 0, "sendfile makes progress")?;
        }
        to.expect_contents(&data, &format!("sendfile from {what}"))?;
    }
    let back = t.create_elsewhere("back", b"")?;
    while sendfile(&back, &from, None, 1 << 20).or_fail("sendfile to another filesystem")? > 0 {}
    back.expect_contents(&data, "sendfile to another filesystem")
}

fn sendfile_moves_the_position_or_the_offset(t: &Test) -> Outcome {
    let data = pattern(8, 9000);
    let from = t.create_with("from", &data)?;
    let to = t.create("to")?;
    from.seek(3, libc::SEEK_SET).or_fail("lseek")?;
    let mut offset = 5000;
    expect_eq(
        sendfile(&to, &from, Some(&mut offset), 10).or_fail("sendfile")?,
        10,
        "bytes",
    )?;
    expect_eq(
        (offset, from.position()?, to.position()?),
        (5010, 3, 10),
        "with an offset",
    )?;
    expect_eq(
        sendfile(&to, &from, None, 20).or_fail("sendfile")?,
        20,
        "bytes",
    )?;
    expect_eq(
        (from.position()?, to.position()?),
        (23, 30),
        "without an offset",
    )?;
    to.expect_contents(&[&data[5000..5010], &data[3..23]].concat(), "both parts")?;
    let mut behind = 9000;
    let n = sendfile(&to, &from, Some(&mut behind), 10).or_fail("sendfile at the end")?;
    expect_eq(n, 0, "bytes at the end")
}

fn sendfile_to_a_socket_and_back_is_right(t: &Test) -> Outcome {
    let data = pattern(9, 20_000);
    let from = t.create_with("from", &data)?;
    let (a, b) = std::os::unix::net::UnixStream::pair().or_fail("socketpair")?;
    let n = sendfile(&a, &from, None, 20_000).or_fail("sendfile to a socket")?;
    expect_bytes(&read_all(&b, n)?, &data[..n], "out of the socket")?;
    // And a socket into a file, by way of a pipe.
    write_all(&a, &data)?;
    let to = t.create("to")?;
    let (output, input) = pipe()?;
    let mut moved = 0;
    while moved < data.len() {
        let n =
            splice(&b, None, &input, None, data.len() - moved).or_fail("splice from a socket")?;
        let mut left = n;
        while left > 0 {
            left -= splice(&output, None, &to, None, left).or_fail("splice to the file")?;
        }
        moved += n;
    }
    to.expect_contents(&data, "a socket into a file")
}

fn bytes_in_a_pipe_survive_the_file(t: &Test) -> Outcome {
    let data = blocks(10, 4);
    let file = t.create_with("file", &data)?;
    let (output, input) = pipe()?;
    let n = splice(&file, Some(&mut 0), &input, None, 4 * BLOCK).or_fail("splice")?;
    // The file is removed, and its blocks may go to others.
    file.truncate(0)?;
    drop(file);
    unlink(t.path("file")).or_fail("unlink")?;
    for i in 0..8 {
        t.create_with(&format!("other-{i}"), &vec![0xee; 16 * BLOCK])?;
    }
    expect_bytes(&read_all(&output, n)?, &data[..n], "the pipe's bytes")
}

fn bytes_in_a_pipe_are_not_changed_by_a_clones_write(t: &Test) -> Outcome {
    let data = blocks(11, 3);
    let source = t.create_with("source", &data)?;
    let clone = new_clone(&source, t.path("clone"))?;
    let (output, input) = pipe()?;
    let n = splice(&source, Some(&mut 0), &input, None, 3 * BLOCK).or_fail("splice")?;
    clone.write_at(&vec![0xee; 3 * BLOCK], 0)?;
    let map = Mapping::shared(&clone, 3 * BLOCK)?;
    map.store(10, b"stored");
    expect_bytes(
        &read_all(&output, n)?,
        &data[..n],
        "the source's bytes in the pipe",
    )
}

fn bytes_in_a_pipe_are_not_taken_over_by_the_file(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let mut buffer = pattern(12, 2 * BLOCK);
    let (output, input) = pipe()?;
    write_all(&input, &buffer)?;
    let expected = buffer.clone();
    let mut at = 0;
    while (at as usize) < 2 * BLOCK {
        splice(&output, None, &file, Some(&mut at), 2 * BLOCK).or_fail("splice")?;
    }
    buffer.fill(0);
    write_all(&input, &vec![0xee; 2 * BLOCK])?;
    file.expect_contents(&expected, "the file after the pipe was used again")
}

fn tee_gives_two_of_the_same(t: &Test) -> Outcome {
    let data = pattern(13, 2 * BLOCK);
    let file = t.create_with("file", &data)?;
    let ((out_one, in_one), (out_two, in_two)) = (pipe()?, pipe()?);
    let n = splice(&file, Some(&mut 0), &in_one, None, 2 * BLOCK).or_fail("splice")?;
    // SAFETY: plain call on open descriptors.
    let teed = unsafe { libc::tee(out_one.as_raw_fd(), in_two.as_raw_fd(), n, 0) };
    let teed = check(teed as i64).or_fail("tee")?;
    let to = t.create("to")?;
    let mut at = 0;
    while (at as usize) < teed {
        splice(&out_two, None, &to, Some(&mut at), teed).or_fail("splice")?;
    }
    to.write_at(b"changed", 0)?;
    expect_bytes(&read_all(&out_one, n)?, &data[..n], "the first pipe")?;
    expect_bytes(
        &to.read_at(7, teed - 7)?,
        &data[7..teed],
        "the second, in a file",
    )?;
    file.expect_contents(&data, "the source")
}

fn vmsplice_of_a_mapping_gives_its_bytes(t: &Test) -> Outcome {
    let data = blocks(14, 4);
    let file = t.create_with("file", &data)?;
    let shared = Mapping::shared(&file, 4 * BLOCK)?;
    let private = Mapping::private(&file, 4 * BLOCK)?;
    let reader = Mapping::shared_read(&file, 4 * BLOCK)?;
    let hole = t.create("hole")?;
    hole.truncate(4 * BLOCK64)?;
    let hole_map = Mapping::shared(&hole, 4 * BLOCK)?;
    for (map, expected) in [
        (&shared, data.clone()),
        (&private, data.clone()),
        (&reader, data.clone()),
        (&hole_map, vec![0; 4 * BLOCK]),
    ] {
        let (output, input) = pipe()?;
        let n = vmsplice(&input, map.at(100), 3 * BLOCK).or_fail("vmsplice")?;
        let to = t.create("to")?;
        let mut at = 0;
        while (at as usize) < n {
            splice(&output, None, &to, Some(&mut at), n).or_fail("splice")?;
        }
        to.expect_contents(&expected[100..100 + n], "vmsplice into a file")?;
    }
    Ok(())
}

fn a_pipe_of_mapped_pages_survives_a_clone(t: &Test) -> Outcome {
    let data = blocks(15, 3);
    let file = t.create_with("file", &data)?;
    let map = Mapping::shared(&file, 3 * BLOCK)?;
    map.store(0, &data[..1]);
    let (output, input) = pipe()?;
    let n = vmsplice(&input, map.at(0), 3 * BLOCK).or_fail("vmsplice")?;
    let clone = new_clone(&file, t.path("clone"))?;
    clone.write_at(&vec![0xee; 3 * BLOCK], 0)?;
    drop(clone);
    unlink(t.path("clone")).or_fail("unlink")?;
    expect_bytes(&read_all(&output, n)?, &data[..n], "the pages in the pipe")?;
    file.expect_contents(&data, "the file")
}

fn a_chain_of_pipes_copies_a_file(t: &Test) -> Outcome {
    let data = pattern(16, 100 * BLOCK + 1);
    let from = t.create_with("from", &data)?;
    let to = t.create("to")?;
    let (output, input) = pipe()?;
    loop {
        let n = splice(&from, None, &input, None, 13_000).or_fail("splice to a pipe")?;
        if n == 0 {
            break;
        }
        let mut left = n;
        while left > 0 {
            left -= splice(&output, None, &to, None, left).or_fail("splice from a pipe")?;
        }
    }
    to.expect_contents(&data, "copied through pipes")?;
    from.write_at(&vec![0; 50 * BLOCK], 0)?;
    to.expect_contents(&data, "after the source changed")?;
    to.write_at(&vec![1; BLOCK], 60 * BLOCK64)?;
    expect_bytes(
        &from.read_at(50 * BLOCK64, 50 * BLOCK)?,
        &data[50 * BLOCK..100 * BLOCK],
        "source",
    )
}

fn splice_keeps_the_size_limit_of_a_process(t: &Test) -> Outcome {
    let file = t.create("file")?;
    limit_file_size(BLOCK64 + 10)?;
    count_signals(libc::SIGXFSZ);
    let data = pattern(17, 3 * BLOCK);
    let (output, input) = pipe()?;
    write_all(&input, &data)?;
    let mut at = 0;
    while at < BLOCK as i64 + 10 {
        let n = splice(&output, None, &file, Some(&mut at), 3 * BLOCK).or_fail("splice")?;
        expect(n > 0, "a splice below the limit moves something")?;
    }
    expect_eq(at, BLOCK as i64 + 10, "moved up to the limit")?;
    let refused = splice(&output, None, &file, Some(&mut at), BLOCK);
    expect_errno(refused, libc::EFBIG, "splice at the limit")?;
    expect(signals_seen() > 0, "SIGXFSZ came")?;
    file.expect_contents(&data[..BLOCK + 10], "the file")
}

fn splice_into_a_full_filesystem_is_enospc(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "256k")])?;
    let file = fs.create("file")?;
    fs.fill(2)?;
    let data = pattern(18, 4 * BLOCK);
    let (output, input) = pipe()?;
    write_all(&input, &data)?;
    let mut at = 0;
    let last = loop {
        match splice(&output, None, &file, Some(&mut at), 4 * BLOCK) {
            Ok(n) if n > 0 => {}
            other => break other,
        }
    };
    expect_errno(last, libc::ENOSPC, "splice with nothing free")?;
    expect_eq(at as usize, 2 * BLOCK, "bytes moved until nothing was free")?;
    file.expect_contents(&data[..2 * BLOCK], "the file")
}

fn splice_races_with_writes_and_truncation(t: &Test) -> Outcome {
    // Each byte was in the file once, and never in another file.
    let file = t.create_with("file", &vec![1; 8 * BLOCK])?;
    let other = t.create("other")?;
    let (mine, marked) = (vec![2; 8 * BLOCK], vec![0xee; 8 * BLOCK]);
    t.race(vec![
        worker("writes", || file.write_at(&mine, 0)),
        worker("truncates", || {
            file.truncate(BLOCK64 + 100)?;
            file.truncate(8 * BLOCK64)
        }),
        worker("uses and frees blocks", || {
            other.write_at(&marked, 0)?;
            other.truncate(0)
        }),
        worker("splices", || {
            let seen = through_a_pipe(&file, 0, 8 * BLOCK)?;
            let foreign = seen.iter().position(|b| ![0, 1, 2].contains(b));
            expect(
                foreign.is_none(),
                format_args!("a foreign byte at {foreign:?}"),
            )
        }),
    ])
}

fn space_held_by_a_pipe_comes_back(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let before = fs.space()?;
    let file = fs.create_with("file", &blocks(19, 4))?;
    let (output, input) = pipe()?;
    splice(&file, Some(&mut 0), &input, None, 4 * BLOCK).or_fail("splice")?;
    drop(file);
    unlink(fs.path("file")).or_fail("unlink")?;
    drop((output, input));
    // Blocks of a pipe may be freed a moment later, but are freed.
    eventually(
        "there is as much space after the pipe was closed as before",
        || Ok(fs.space()? == before),
    )?;
    fs.unmount()
}

/// The end of a file moves up after its last block was handed to the pipe, or before; never in
/// between.
fn what_is_spliced_while_a_file_grows_is_what_was_written(t: &Test) -> Outcome {
    let file = t.create_with("file", &[1; 100])?;
    let (from, to) = pipe()?;
    t.race(vec![
        appends(&file, 100),
        worker("splices the end", || {
            let end = file.stat()?.st_size;
            let mut at = (end - 1) / BLOCK as i64 * BLOCK as i64;
            let spliced = splice(&file, Some(&mut at), &to, None, 2 * BLOCK).or_fail("splice")?;
            let seen = read_all(&from, spliced)?;
            expect(!seen.contains(&0), "bytes that were never zeros")
        }),
    ])
}
