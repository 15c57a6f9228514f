// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Regular files: read, write, append, vectors, and refusals.

use std::os::fd::AsRawFd;

use crate::case::{case, worker, Case, Test};
use crate::failure::{
    expect, expect_bytes, expect_eq, expect_errno, expect_one_of, Context, Outcome, Sys,
};
use crate::mapping::Mapping;
use crate::model::{History, Repertoire};
use crate::pattern::{blocks, pattern, Random, BLOCK, BLOCK64};
use crate::sys::{check, pread_to, pwrite_from, read_to, write_from, File};

pub const CASES: &[Case] = &[
    case!(what_is_written_is_read_at_any_offset_and_length),
    case!(a_large_file_comes_back_as_it_was_written),
    case!(overwriting_changes_only_what_it_should),
    case!(a_read_stops_at_the_end_of_the_file),
    case!(the_position_moves_by_what_was_read_or_written),
    case!(append_goes_to_the_end_wherever_the_position_is),
    case!(appends_of_many_threads_all_arrive),
    case!(per_call_flags_of_preadv2_and_pwritev2_work),
    case!(vectors_are_read_and_written_in_order),
    case!(a_write_of_nothing_does_nothing),
    case!(descriptors_not_open_for_it_are_ebadf),
    case!(a_directory_cannot_be_read_or_written_as_a_file),
    case!(negative_offsets_are_einval),
    case!(random_histories_match_the_model),
    case!(freed_blocks_show_no_old_bytes),
];

fn what_is_written_is_read_at_any_offset_and_length(t: &Test) -> Outcome {
    const EDGES: &[usize] = &[0, 1, 511, 4095, 4096, 4097, 8191, 8192, 12288, 20000];
    let data = pattern(1, 20000);
    for (i, &offset) in EDGES.iter().enumerate() {
        let file = t.create("file")?;
        for &len in &EDGES[1..] {
            let mut model = file.contents()?;
            let end = offset + len;
            if model.len() < end {
                model.resize(end, 0);
            }
            let data = &data[i..]
                .iter()
                .cycle()
                .take(len)
                .copied()
                .collect::<Vec<_>>();
            model[offset..end].copy_from_slice(data);
            file.write_at(data, offset as u64)?;
            file.expect_contents(&model, &format!("{len} bytes at {offset}"))?;
            for &(at, n) in &[
                (offset, len),
                (offset.saturating_sub(1), len + 2),
                (end - 1, 1),
            ] {
                let want = &model[at.min(end)..(at + n).min(model.len())];
                let what = format!("reading {n} bytes at {at}");
                expect_bytes(&file.read_at(at as u64, n)?, want, what)?;
            }
        }
    }
    Ok(())
}

fn a_large_file_comes_back_as_it_was_written(t: &Test) -> Outcome {
    // More than one level of a tree with 64 children a node, and one call for all of it.
    let count = 64 * 64 / t.settings.divisor.min(8) + 3;
    let mut data = blocks(2, 64);
    data = data.iter().copied().cycle().take(count * BLOCK).collect();
    for (i, block) in data.chunks_mut(BLOCK).enumerate() {
        block[..8].copy_from_slice(&(i as u64).to_le_bytes());
    }
    let file = t.create_with("file", &data)?;
    let seen = file.contents()?;
    expect_bytes(&seen, &data, "a large file")?;
    file.truncate(0)?;
    file.expect_contents(b"", "after truncation")
}

fn overwriting_changes_only_what_it_should(t: &Test) -> Outcome {
    let mut model = blocks(3, 4);
    let file = t.create_with("file", &model)?;
    for (offset, len) in [(0, 1), (4095, 2), (4096, 4096), (100, 9000), (16383, 1)] {
        let data = vec![0; len];
        file.write_at(&data, offset as u64)?;
        model[offset..offset + len].fill(0);
        file.expect_contents(&model, &format!("zeros, {len} at {offset}"))?;
    }
    Ok(())
}

fn a_read_stops_at_the_end_of_the_file(t: &Test) -> Outcome {
    let data = pattern(4, 5000);
    let file = t.create_with("file", &data)?;
    let mut buffer = vec![0xcc; 9000];
    let read = |buffer: &mut [u8], at| file.try_pread(buffer, at).or_fail("pread");
    expect_eq(read(&mut buffer, 0)?, 5000, "bytes read of 9000 asked")?;
    expect(
        buffer[5000..].iter().all(|&b| b == 0xcc),
        "nothing is stored behind the end",
    )?;
    expect_eq(read(&mut buffer, 4999)?, 1, "bytes read at the last byte")?;
    expect_eq(read(&mut buffer, 5000)?, 0, "bytes read at the end")?;
    expect_eq(
        read(&mut buffer, 1 << 40)?,
        0,
        "bytes read far behind the end",
    )?;
    let empty = t.create("empty")?;
    expect_eq(
        empty.try_pread(&mut buffer, 0).or_fail("pread")?,
        0,
        "bytes read of nothing",
    )
}

fn the_position_moves_by_what_was_read_or_written(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let data = pattern(5, 6000);
    expect_eq(
        write_from(&file, data.as_ptr(), 6000).or_fail("write")?,
        6000,
        "written",
    )?;
    expect_eq(file.position()?, 6000, "position after write")?;
    let mut buffer = vec![0; 6000];
    expect_eq(
        read_to(&file, buffer.as_mut_ptr(), 10).or_fail("read")?,
        0,
        "read at the end",
    )?;
    expect_eq(
        file.seek(1000, libc::SEEK_SET).or_fail("lseek")?,
        1000,
        "lseek",
    )?;
    let n = read_to(&file, buffer.as_mut_ptr(), 6000).or_fail("read")?;
    expect_eq(n, 5000, "read from 1000 to the end")?;
    expect_eq(file.position()?, 6000, "position after read")?;
    expect_bytes(&buffer[..5000], &data[1000..], "the bytes read")?;
    file.write_at(b"x", 20)?;
    expect_eq(
        file.position()?,
        6000,
        "position after pwrite, which leaves it alone",
    )
}

fn append_goes_to_the_end_wherever_the_position_is(t: &Test) -> Outcome {
    let file = t.create_with("file", b"one")?;
    let append = file.reopen(libc::O_RDWR | libc::O_APPEND)?;
    append.seek(0, libc::SEEK_SET).or_fail("lseek")?;
    write_from(&append, b"two".as_ptr(), 3).or_fail("write")?;
    expect_eq(append.position()?, 6, "position after an append")?;
    file.write_at(b"three", 6)?;
    write_from(&append, b"four".as_ptr(), 4).or_fail("write")?;
    // Linux appends even where an offset is given.
    pwrite_from(&append, b"five".as_ptr(), 4, 0).or_fail("pwrite")?;
    file.expect_contents(b"onetwothreefourfive", "after appends")
}

fn appends_of_many_threads_all_arrive(t: &Test) -> Outcome {
    const RECORD: usize = 100;
    let writers = 4;
    let each = t.rounds(200);
    t.create("file")?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|writer| {
                scope.spawn(move || -> Outcome {
                    let flags = libc::O_WRONLY | libc::O_APPEND;
                    let file = File::open(t.path("file"), flags).or_fail("open")?;
                    for i in 0..each {
                        let mut record = [writer as u8; RECORD];
                        record[1..9].copy_from_slice(&(i as u64).to_le_bytes());
                        let n = write_from(&file, record.as_ptr(), RECORD).or_fail("write")?;
                        expect_eq(n, RECORD, "bytes appended")?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|t| {
            t.join()
                .unwrap_or_else(|_| expect(false, "a thread panicked"))
        })
    })?;
    let file = File::open(t.path("file"), libc::O_RDONLY).or_fail("open")?;
    let data = file.contents()?;
    expect_eq(
        data.len(),
        writers * each * RECORD,
        "size after all appends",
    )?;
    let mut next = vec![0u64; writers];
    for (i, record) in data.chunks(RECORD).enumerate() {
        let writer = usize::from(record[0]);
        let mut number = [0; 8];
        number.copy_from_slice(&record[1..9]);
        expect(
            writer < writers
                && u64::from_le_bytes(number) == next[writer]
                && record[9..].iter().all(|&b| usize::from(b) == writer),
            format_args!("record {i} is whole and in its writer's order"),
        )?;
        next[writer] += 1;
    }
    Ok(())
}

fn vector(buffers: &mut [Vec<u8>]) -> Vec<libc::iovec> {
    buffers
        .iter_mut()
        .map(|b| libc::iovec {
            iov_base: b.as_mut_ptr().cast(),
            iov_len: b.len(),
        })
        .collect()
}

fn per_call_flags_of_preadv2_and_pwritev2_work(t: &Test) -> Outcome {
    let file = t.create_with("file", b"0123456789")?;
    let write = |data: &[u8], offset, flags| -> Sys<usize> {
        let mut buffers = [data.to_vec()];
        let vector = vector(&mut buffers);
        // SAFETY: one valid buffer.
        check(unsafe { libc::pwritev2(file.as_raw_fd(), vector.as_ptr(), 1, offset, flags) } as i64)
    };
    write(b"ab", 2, libc::RWF_DSYNC).or_fail("pwritev2(RWF_DSYNC)")?;
    write(b"cd", 4, libc::RWF_SYNC).or_fail("pwritev2(RWF_SYNC)")?;
    write(b"end", 0, libc::RWF_APPEND).or_fail("pwritev2(RWF_APPEND)")?;
    file.expect_contents(b"01abcd6789end", "after pwritev2")?;
    expect_errno(
        write(b"x", 0, 1 << 30),
        libc::EOPNOTSUPP,
        "pwritev2 with an unknown flag",
    )?;
    // A write that would block may be refused, but must not do anything wrong.
    match write(b"now", 0, libc::RWF_NOWAIT) {
        Ok(n) => expect_bytes(&file.read_at(0, n)?, &b"now"[..n], "RWF_NOWAIT")?,
        refused => expect_one_of(refused, &[libc::EAGAIN, libc::EOPNOTSUPP], "RWF_NOWAIT")?,
    }
    let mut buffers = [vec![0; 3]];
    let vector = vector(&mut buffers);
    // SAFETY: one valid buffer.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), vector.as_ptr(), 1, 10, libc::RWF_HIPRI) };
    match check(read as i64) {
        Ok(n) => {
            expect_eq(n, 3, "preadv2(RWF_HIPRI)")?;
            expect_bytes(&buffers[0], b"end", "preadv2(RWF_HIPRI)")
        }
        refused => expect_errno(refused, libc::EOPNOTSUPP, "preadv2(RWF_HIPRI)"),
    }
}

fn vectors_are_read_and_written_in_order(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let mut out: Vec<Vec<u8>> = [1, 4095, 0, 4097, 10].map(|n| pattern(n as u8, n)).to_vec();
    let all = out.concat();
    let iov = vector(&mut out);
    // SAFETY: valid buffers.
    let n = check(unsafe { libc::pwritev(file.as_raw_fd(), iov.as_ptr(), 5, 77) } as i64);
    expect_eq(n.or_fail("pwritev")?, all.len(), "bytes written")?;
    expect_bytes(&file.read_at(77, all.len())?, &all, "what pwritev wrote")?;
    let mut input: Vec<Vec<u8>> = [5000, 3, 0, 3200].map(|n| vec![0; n]).to_vec();
    let iov = vector(&mut input);
    // SAFETY: valid buffers.
    let n = check(unsafe { libc::preadv(file.as_raw_fd(), iov.as_ptr(), 4, 77) } as i64);
    expect_eq(n.or_fail("preadv")?, 8203, "bytes read")?;
    expect_bytes(&input.concat(), &all[..8203], "what preadv read")
}

fn a_write_of_nothing_does_nothing(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    expect_eq(
        file.try_pwrite(b"", 0).or_fail("pwrite")?,
        0,
        "a write of 0 bytes",
    )?;
    expect_eq(
        file.try_pwrite(b"", 1000).or_fail("pwrite")?,
        0,
        "a write of 0 bytes behind the end",
    )?;
    expect_eq(
        file.try_pread(&mut [], 0).or_fail("pread")?,
        0,
        "a read of 0 bytes",
    )?;
    file.expect_contents(b"data", "after writing nothing")
}

fn descriptors_not_open_for_it_are_ebadf(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let reader = file.reopen(libc::O_RDONLY)?;
    let writer = file.reopen(libc::O_WRONLY)?;
    expect_errno(
        reader.try_pwrite(b"x", 0),
        libc::EBADF,
        "pwrite on O_RDONLY",
    )?;
    expect_errno(
        writer.try_pread(&mut [0], 0),
        libc::EBADF,
        "pread on O_WRONLY",
    )?;
    expect_errno(
        reader.try_truncate(0),
        libc::EINVAL,
        "ftruncate on O_RDONLY",
    )?;
    file.expect_contents(b"data", "after the refusals")
}

fn a_directory_cannot_be_read_or_written_as_a_file(t: &Test) -> Outcome {
    let path = t.mkdir("dir")?;
    expect_errno(
        File::open(&path, libc::O_RDWR),
        libc::EISDIR,
        "open(O_RDWR)",
    )?;
    let dir = File::open(&path, libc::O_RDONLY).or_fail("open")?;
    expect_errno(dir.try_pread(&mut [0], 0), libc::EISDIR, "pread")?;
    expect_errno(dir.try_pwrite(b"x", 0), libc::EBADF, "pwrite")?;
    expect_errno(crate::sys::truncate(&path, 0), libc::EISDIR, "truncate")?;
    expect_errno(
        Mapping::try_new(&dir, 0, BLOCK, libc::PROT_READ, libc::MAP_SHARED),
        libc::ENODEV,
        "mmap",
    )
}

fn negative_offsets_are_einval(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let mut byte = 0;
    expect_errno(
        pread_to(&file, &mut byte, 1, -1),
        libc::EINVAL,
        "pread at -1",
    )?;
    expect_errno(
        pwrite_from(&file, &byte, 1, -1),
        libc::EINVAL,
        "pwrite at -1",
    )?;
    expect_errno(file.seek(-1, libc::SEEK_SET), libc::EINVAL, "lseek to -1")?;
    expect_errno(
        file.seek(-5, libc::SEEK_END),
        libc::EINVAL,
        "lseek before the start",
    )?;
    expect_errno(
        file.seek(0, 77),
        libc::EINVAL,
        "lseek with an unknown whence",
    )?;
    expect_errno(
        crate::sys::truncate(&file.path, -1),
        libc::EINVAL,
        "truncate to -1",
    )
}

fn random_histories_match_the_model(t: &Test) -> Outcome {
    let repertoire = Repertoire {
        reflink: false,
        mappings: true,
    };
    for round in 0..3 {
        let seed = t.settings.seed + round;
        let mut history = History::new(&t.dir, seed, 3, 40, repertoire)?;
        history.run(t.rounds(200))?;
    }
    Ok(())
}

fn freed_blocks_show_no_old_bytes(t: &Test) -> Outcome {
    // One thread frees blocks full of a mark; the other must never read the mark.
    let marked = vec![0xee; 16 * BLOCK];
    let secret = t.create("secret")?;
    let reader = t.create("reader")?;
    let mut random = Random::new(t.settings.seed);
    t.race(vec![
        worker("writes marks and frees them", || {
            secret.write_at(&marked, 0)?;
            secret.truncate(0)
        }),
        worker("extends and reads", || {
            reader.truncate(0)?;
            reader.write_at(b"x", random.below(15 * BLOCK) as u64)?;
            reader.truncate(16 * BLOCK64)?;
            let seen = reader.contents()?;
            expect(
                !seen.contains(&0xee),
                "a fresh file has no bytes of another one",
            )
        }),
    ])
}
