// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Regular files: read, write, append, holes, limits, seeking.

use std::os::fd::AsRawFd;

use crate::case::{case, worker, Case, Test};
use crate::failure::{
    expect, expect_bytes, expect_eq, expect_errno, expect_one_of, Context, Errno, Outcome, Sys,
};
use crate::filesystem::{Btrfs, Need, Tmpfs, Xfs};
use crate::mapping::Mapping;
use crate::model::{History, Repertoire};
use crate::pattern::{blocks, pattern, Random, BLOCK, BLOCK64};
use crate::process::{count_signals, limit_file_size, signals_seen};
use crate::sys::{check, pread_to, pwrite_from, read_all, read_to, write_from, File};

pub const CASES: &[Case] = &[
    case!(what_is_written_is_read_at_any_offset_and_length),
    case!(a_large_file_comes_back_as_it_was_written),
    case!(overwriting_changes_only_what_it_should),
    case!(a_read_stops_at_the_end_of_the_file),
    case!(the_position_moves_by_what_was_read_or_written),
    case!(a_hole_reads_as_zeros_and_takes_no_blocks),
    case!(a_write_into_a_hole_leaves_zeros_around_it),
    case!(a_gap_behind_the_end_reads_as_zeros),
    case!(st_blocks_counts_the_blocks_at_once).needs(&[Need::ExactBlocks]),
    case!(append_goes_to_the_end_wherever_the_position_is),
    case!(appends_of_many_threads_all_arrive),
    case!(per_call_flags_of_preadv2_and_pwritev2_work),
    case!(vectors_are_read_and_written_in_order),
    case!(a_write_of_nothing_does_nothing),
    case!(descriptors_not_open_for_it_are_ebadf),
    case!(a_directory_cannot_be_read_or_written_as_a_file),
    case!(negative_offsets_are_einval),
    case!(truncate_cuts_and_extends),
    case!(truncate_leaves_no_old_bytes_behind),
    case!(truncate_frees_blocks).needs(&[Need::ExactBlocks]),
    case!(truncate_refuses_what_it_must),
    case!(opening_with_o_trunc_empties_the_file),
    case!(the_size_limit_of_a_process_is_kept),
    case!(the_size_limit_of_a_process_holds_for_truncate),
    case!(the_largest_offset_works_and_the_next_is_efbig),
    case!(a_sparse_file_of_many_terabytes_works),
    case!(seek_moves_as_asked_and_refuses_what_it_must),
    case!(seek_data_and_seek_hole_find_the_edges)
        .except(Xfs, "preallocates behind appended data"),
    case!(seek_data_and_seek_hole_right_after_writing_never_hide_data),
    case!(seek_hole_at_the_end_and_enxio_behind_it),
    case!(seek_data_and_seek_hole_before_the_start_are_enxio)
        .except(Btrfs, "takes negative offsets for 0"),
    case!(fsync_fdatasync_and_syncfs_succeed),
    case!(a_bad_buffer_is_efault_and_writes_nothing),
    case!(a_bad_buffer_does_not_make_the_file_longer)
        .except(Tmpfs, "sets the size before it copies"),
    case!(a_half_bad_buffer_writes_the_good_half),
    case!(a_half_bad_buffer_reads_the_good_half),
    case!(a_failed_write_into_a_hole_shows_no_foreign_bytes)
        .except(Xfs, "iomap leaves what was in the page before"),
    case!(writing_a_file_from_its_own_mapping_works),
    case!(writing_a_page_from_itself_works),
    case!(reading_a_file_into_its_own_mapping_works),
    case!(locks_and_leases_work_as_everywhere),
    case!(open_flags_are_accepted),
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
            let data = &data[i..].iter().cycle().take(len).copied().collect::<Vec<_>>();
            model[offset..end].copy_from_slice(data);
            file.write_at(data, offset as u64)?;
            file.expect_contents(&model, &format!("{len} bytes at {offset}"))?;
            for &(at, n) in &[(offset, len), (offset.saturating_sub(1), len + 2), (end - 1, 1)] {
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
    let count = 64 * 64 / t.effort.divisor.min(8) + 3;
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
    expect(buffer[5000..].iter().all(|&b| b == 0xcc), "nothing is stored behind the end")?;
    expect_eq(read(&mut buffer, 4999)?, 1, "bytes read at the last byte")?;
    expect_eq(read(&mut buffer, 5000)?, 0, "bytes read at the end")?;
    expect_eq(read(&mut buffer, 1 << 40)?, 0, "bytes read far behind the end")?;
    let empty = t.create("empty")?;
    expect_eq(empty.try_pread(&mut buffer, 0).or_fail("pread")?, 0, "bytes read of nothing")
}

fn the_position_moves_by_what_was_read_or_written(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let data = pattern(5, 6000);
    expect_eq(write_from(&file, data.as_ptr(), 6000).or_fail("write")?, 6000, "written")?;
    expect_eq(file.position()?, 6000, "position after write")?;
    let mut buffer = vec![0; 6000];
    expect_eq(read_to(&file, buffer.as_mut_ptr(), 10).or_fail("read")?, 0, "read at the end")?;
    expect_eq(file.seek(1000, libc::SEEK_SET).or_fail("lseek")?, 1000, "lseek")?;
    let n = read_to(&file, buffer.as_mut_ptr(), 6000).or_fail("read")?;
    expect_eq(n, 5000, "read from 1000 to the end")?;
    expect_eq(file.position()?, 6000, "position after read")?;
    expect_bytes(&buffer[..5000], &data[1000..], "what was read")?;
    file.write_at(b"x", 20)?;
    expect_eq(file.position()?, 6000, "position after pwrite, which leaves it alone")
}

fn a_hole_reads_as_zeros_and_takes_no_blocks(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(1 << 20)?;
    expect(file.data_blocks()? == 0, "a file of 1 MiB that is all hole has no blocks")?;
    let contents = file.contents()?;
    expect(contents.len() == 1 << 20 && contents.iter().all(|&b| b == 0), "it reads as zeros")?;
    expect_eq(file.data_blocks()?, 0, "blocks after reading the hole")
}

fn a_write_into_a_hole_leaves_zeros_around_it(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(5 * BLOCK64)?;
    let mut model = vec![0; 5 * BLOCK];
    file.write_at(b"middle", 2 * BLOCK64 + 1000)?;
    model[2 * BLOCK + 1000..][..6].copy_from_slice(b"middle");
    file.expect_contents(&model, "after a write into a hole")?;
    file.write_at(b"edge", BLOCK64 - 2)?;
    model[BLOCK - 2..][..4].copy_from_slice(b"edge");
    file.expect_contents(&model, "after a write across two holes")
}

fn a_gap_behind_the_end_reads_as_zeros(t: &Test) -> Outcome {
    let file = t.create_with("file", b"start")?;
    let mut model = b"start".to_vec();
    for at in [100, 4096, 10_000, 40_960] {
        file.write_at(b"x", at)?;
        model.resize(at as usize, 0);
        model.push(b'x');
        file.expect_contents(&model, &format!("after a write at {at}"))?;
    }
    Ok(())
}

fn st_blocks_counts_the_blocks_at_once(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let mut expected = 0;
    for (offset, len, more) in [(0, 1, 1), (1, 4095, 0), (4096, 8192, 2), (1 << 30, 4097, 2)] {
        file.write_at(&pattern(6, len), offset)?;
        expected += more;
        let what = format!("blocks after writing {len} bytes at {offset}");
        expect_eq(file.data_blocks()?, expected, what)?;
    }
    file.truncate(4097)?;
    expect_eq(file.data_blocks()?, 2, "blocks after truncation to 4097 bytes")?;
    file.truncate(0)?;
    expect_eq(file.data_blocks()?, 0, "blocks after truncation to nothing")
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
        threads
            .into_iter()
            .try_for_each(|t| t.join().unwrap_or_else(|_| expect(false, "a thread panicked")))
    })?;
    let file = File::open(t.path("file"), libc::O_RDONLY).or_fail("open")?;
    let data = file.contents()?;
    expect_eq(data.len(), writers * each * RECORD, "size after all appends")?;
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
    expect_errno(write(b"x", 0, 1 << 30), libc::EOPNOTSUPP, "pwritev2 with an unknown flag")?;
    // What cannot be done at once may be refused, but never done wrong.
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
    expect_eq(file.try_pwrite(b"", 0).or_fail("pwrite")?, 0, "a write of 0 bytes")?;
    expect_eq(file.try_pwrite(b"", 1000).or_fail("pwrite")?, 0, "a write of 0 bytes behind the end")?;
    expect_eq(file.try_pread(&mut [], 0).or_fail("pread")?, 0, "a read of 0 bytes")?;
    file.expect_contents(b"data", "after writing nothing")
}

fn descriptors_not_open_for_it_are_ebadf(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let reader = file.reopen(libc::O_RDONLY)?;
    let writer = file.reopen(libc::O_WRONLY)?;
    expect_errno(reader.try_pwrite(b"x", 0), libc::EBADF, "pwrite on O_RDONLY")?;
    expect_errno(writer.try_pread(&mut [0], 0), libc::EBADF, "pread on O_WRONLY")?;
    expect_errno(reader.try_truncate(0), libc::EINVAL, "ftruncate on O_RDONLY")?;
    file.expect_contents(b"data", "after the refusals")
}

fn a_directory_cannot_be_read_or_written_as_a_file(t: &Test) -> Outcome {
    let path = t.mkdir("dir")?;
    expect_errno(File::open(&path, libc::O_RDWR), libc::EISDIR, "open(O_RDWR)")?;
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
    expect_errno(pread_to(&file, &mut byte, 1, -1), libc::EINVAL, "pread at -1")?;
    expect_errno(pwrite_from(&file, &byte, 1, -1), libc::EINVAL, "pwrite at -1")?;
    expect_errno(file.seek(-1, libc::SEEK_SET), libc::EINVAL, "lseek to -1")?;
    expect_errno(file.seek(-5, libc::SEEK_END), libc::EINVAL, "lseek before the start")?;
    expect_errno(file.seek(0, 77), libc::EINVAL, "lseek with an unknown whence")?;
    expect_errno(crate::sys::truncate(&file.path, -1), libc::EINVAL, "truncate to -1")
}

fn truncate_cuts_and_extends(t: &Test) -> Outcome {
    let mut model = blocks(7, 3);
    let file = t.create_with("file", &model)?;
    for size in [12287, 8193, 8192, 8191, 5000, 20000, 4096, 4095, 1, 0, 1, 9000] {
        file.truncate(size)?;
        model.resize(size as usize, 0);
        file.expect_contents(&model, &format!("truncated to {size}"))?;
    }
    crate::sys::truncate(&file.path, 3).or_fail("truncate by name")?;
    expect_eq(file.size()?, 3, "size after truncate by name")
}

fn truncate_leaves_no_old_bytes_behind(t: &Test) -> Outcome {
    for cut in [1, 100, 4095, 4096, 4097, 8000] {
        let file = t.create_with("file", &blocks(8, 3))?;
        file.truncate(cut)?;
        file.truncate(3 * BLOCK64)?;
        let mut model = blocks(8, 3);
        model[cut as usize..].fill(0);
        file.expect_contents(&model, &format!("cut to {cut} and extended again"))?;
        // The same with the extension made by a write.
        let file = t.create_with("file", &blocks(8, 3))?;
        file.truncate(cut)?;
        file.write_at(b"end", 3 * BLOCK64 - 3)?;
        model[3 * BLOCK - 3..].copy_from_slice(b"end");
        file.expect_contents(&model, &format!("cut to {cut} and extended by a write"))?;
    }
    Ok(())
}

fn truncate_frees_blocks(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(9, 200))?;
    for (size, left) in [(150 * BLOCK64 + 1, 151), (65 * BLOCK64, 65), (64 * BLOCK64, 64), (1, 1)] {
        file.truncate(size)?;
        expect_eq(file.data_blocks()?, left, format_args!("blocks at a size of {size}"))?;
    }
    file.truncate(100 * BLOCK64)?;
    expect_eq(file.data_blocks()?, 1, "blocks after extending without data")
}

fn truncate_refuses_what_it_must(t: &Test) -> Outcome {
    let missing = t.path("missing");
    expect_errno(crate::sys::truncate(missing, 0), libc::ENOENT, "truncate of nothing")?;
    let file = t.create_with("file", b"data")?;
    let negative = unsafe_ftruncate(&file, -1);
    expect_errno(negative, libc::EINVAL, "ftruncate to -1")?;
    file.expect_contents(b"data", "after the refusals")
}

fn unsafe_ftruncate(file: &File, size: i64) -> Sys<usize> {
    // SAFETY: plain call on an open descriptor.
    check(unsafe { libc::ftruncate(file.as_raw_fd(), size) })
}

fn opening_with_o_trunc_empties_the_file(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 2))?;
    let other = file.reopen(libc::O_WRONLY | libc::O_TRUNC)?;
    expect_eq(file.size()?, 0, "size after open(O_TRUNC)")?;
    other.write_at(b"new", 0)?;
    file.expect_contents(b"new", "written after open(O_TRUNC)")
}

fn the_size_limit_of_a_process_is_kept(t: &Test) -> Outcome {
    let file = t.create("file")?;
    limit_file_size(10_000)?;
    count_signals(libc::SIGXFSZ);
    let data = pattern(1, 12_000);
    let n = file.try_pwrite(&data, 0).or_fail("a write across the limit")?;
    expect_eq(n, 10_000, "bytes written of 12000 with a limit of 10000")?;
    expect_eq(signals_seen(), 0, "signals after a write that was shortened")?;
    expect_errno(file.try_pwrite(b"x", 10_000), libc::EFBIG, "a write at the limit")?;
    expect_eq(signals_seen(), 1, "SIGXFSZ after a write at the limit")?;
    expect_errno(file.try_pwrite(b"x", 1 << 40), libc::EFBIG, "a write behind the limit")?;
    expect_eq(signals_seen(), 1, "SIGXFSZ after a write behind the limit")?;
    file.write_at(b"inside", 9_994)?;
    expect_eq(file.size()?, 10_000, "size")
}

fn the_size_limit_of_a_process_holds_for_truncate(t: &Test) -> Outcome {
    let file = t.create("file")?;
    limit_file_size(10_000)?;
    count_signals(libc::SIGXFSZ);
    file.truncate(10_000)?;
    expect_errno(file.try_truncate(10_001), libc::EFBIG, "truncate above the limit")?;
    expect_eq(signals_seen(), 1, "SIGXFSZ after truncate above the limit")?;
    expect_eq(file.size()?, 10_000, "size")
}

fn the_largest_offset_works_and_the_next_is_efbig(t: &Test) -> Outcome {
    let file = t.create("file")?;
    // The largest size that truncate takes is the filesystem's limit.
    let (mut works, mut fails) = (0u64, i64::MAX as u64 + 1);
    while fails - works > 1 {
        let middle = works + (fails - works) / 2;
        match file.try_truncate(middle) {
            Ok(()) => works = middle,
            Err(Errno(libc::EFBIG)) => fails = middle,
            Err(error) => return Err(error).or_fail(format_args!("ftruncate to {middle}")),
        }
    }
    file.truncate(0)?;
    expect(works >= 1 << 40, format_args!("the largest size is at least 1 TiB: {works}"))?;
    file.write_at(b"last", works - 4)?;
    expect_eq(file.size()?, works, "size after writing the last bytes")?;
    expect_bytes(&file.read_at(works - 4, 4)?, b"last", "the last bytes")?;
    if works < i64::MAX as u64 {
        expect_errno(file.try_pwrite(b"x", works), libc::EFBIG, "a write at the largest size")?;
        let n = file.try_pwrite(b"past", works - 2).or_fail("a write across the largest size")?;
        expect_eq(n, 2, "bytes written across the largest size")?;
    } else {
        // No offset can hold the end of such a write.
        expect_errno(file.try_pwrite(b"x", works), libc::EINVAL, "a write at 2^63 - 1")?;
        expect_errno(file.try_pwrite(b"past", works - 2), libc::EINVAL, "a write across 2^63 - 1")?;
    }
    expect_eq(file.seek(works as i64 - 4, libc::SEEK_DATA).or_fail("SEEK_DATA")?, works - 4, "data")?;
    if works < i64::MAX as u64 {
        expect_errno(file.seek(works as i64 + 1, libc::SEEK_SET), libc::EINVAL, "lseek behind it")?;
    }
    expect_bytes(&file.read_at(0, 10)?, &[0; 10], "the start")?;
    file.truncate(1)?;
    file.expect_contents(&[0], "cut down to one byte")
}

fn a_sparse_file_of_many_terabytes_works(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let places: Vec<u64> = (12..44).map(|bit| (1u64 << bit) - 3).collect();
    for (i, &place) in places.iter().enumerate() {
        file.write_at(&[i as u8 + 1; 6], place)?;
    }
    for (i, &place) in places.iter().enumerate() {
        let mut expected = vec![0; 3];
        expected.extend([i as u8 + 1; 6]);
        // The data before ends where this stretch starts, for small places.
        if place > 20 {
            expect_bytes(&file.read_at(place - 3, 9)?, &expected, format!("around {place}"))?;
        }
    }
    for &place in &places {
        let data = file.seek(place as i64, libc::SEEK_DATA).or_fail("SEEK_DATA")?;
        expect_eq(data, place, format_args!("SEEK_DATA at data at {place}"))?;
    }
    file.truncate((1 << 20) + 1)?;
    expect_eq(file.read_at((1 << 20) - 3, 20)?, [9, 9, 9, 9], "the end after truncation")
}

fn seek_moves_as_asked_and_refuses_what_it_must(t: &Test) -> Outcome {
    let file = t.create_with("file", &pattern(1, 5000))?;
    let seek = |offset, whence| file.seek(offset, whence).or_fail("lseek");
    expect_eq(seek(100, libc::SEEK_SET)?, 100, "SEEK_SET")?;
    expect_eq(seek(-50, libc::SEEK_CUR)?, 50, "SEEK_CUR")?;
    expect_eq(seek(0, libc::SEEK_END)?, 5000, "SEEK_END")?;
    expect_eq(seek(-5000, libc::SEEK_END)?, 0, "SEEK_END back to the start")?;
    expect_eq(seek(1 << 40, libc::SEEK_SET)?, 1 << 40, "SEEK_SET far behind the end")?;
    expect_eq(file.size()?, 5000, "size after seeking behind the end")?;
    expect_eq(seek(7, libc::SEEK_SET)?, 7, "SEEK_SET")?;
    expect_errno(file.seek(-8, libc::SEEK_CUR), libc::EINVAL, "before the start")?;
    expect_errno(file.seek(i64::MAX, libc::SEEK_CUR), libc::EOVERFLOW, "behind the largest offset")
        .or_else(|_| {
            expect_errno(file.seek(i64::MAX, libc::SEEK_CUR), libc::EINVAL, "behind the largest offset")
        })?;
    expect_eq(file.position()?, 7, "position after refused seeks")
}

fn seek_data_and_seek_hole_find_the_edges(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(20 * BLOCK64)?;
    for block in [2, 3, 7, 19] {
        file.write_at(&blocks(1, 1), block * BLOCK64)?;
    }
    let edge = |n: u64| n * BLOCK64;
    let expected = [(edge(2), edge(4)), (edge(7), edge(8)), (edge(19), edge(20))];
    expect_eq(file.data_ranges()?, expected, "data")?;
    let seek = |at, whence| file.seek(at as i64, whence).or_fail("lseek");
    expect_eq(seek(edge(2) + 5, libc::SEEK_DATA)?, edge(2) + 5, "SEEK_DATA inside data")?;
    expect_eq(seek(edge(5) + 5, libc::SEEK_DATA)?, edge(7), "SEEK_DATA inside a hole")?;
    expect_eq(seek(edge(5) + 5, libc::SEEK_HOLE)?, edge(5) + 5, "SEEK_HOLE inside a hole")?;
    expect_eq(seek(edge(2) + 5, libc::SEEK_HOLE)?, edge(4), "SEEK_HOLE inside data")?;
    expect_eq(file.position()?, edge(4), "the position is what SEEK_HOLE found")?;
    file.truncate(edge(19) + 1)?;
    expect_eq(seek(edge(19), libc::SEEK_HOLE)?, edge(19) + 1, "SEEK_HOLE in the last block")
}

fn seek_data_and_seek_hole_right_after_writing_never_hide_data(t: &Test) -> Outcome {
    let mut random = Random::new(t.effort.seed);
    let file = t.create("file")?;
    file.truncate(256 * BLOCK64)?;
    for _ in 0..t.rounds(100) {
        let at = random.below(255 * BLOCK) as u64;
        file.write_at(b"here", at)?;
        let found = file.seek(at as i64, libc::SEEK_DATA).or_fail("SEEK_DATA")?;
        expect_eq(found, at, format_args!("SEEK_DATA at {at}, which was just written"))?;
    }
    Ok(())
}

fn seek_hole_at_the_end_and_enxio_behind_it(t: &Test) -> Outcome {
    let file = t.create("file")?;
    expect_errno(file.seek(0, libc::SEEK_DATA), libc::ENXIO, "SEEK_DATA in an empty file")?;
    expect_errno(file.seek(0, libc::SEEK_HOLE), libc::ENXIO, "SEEK_HOLE in an empty file")?;
    file.write_at(&pattern(1, 5000), 0)?;
    expect_eq(file.seek(0, libc::SEEK_HOLE).or_fail("SEEK_HOLE")?, 5000, "the hole at the end")?;
    for at in [5000, 5001, 1 << 40] {
        expect_errno(file.seek(at, libc::SEEK_DATA), libc::ENXIO, format_args!("SEEK_DATA at {at}"))?;
        expect_errno(file.seek(at, libc::SEEK_HOLE), libc::ENXIO, format_args!("SEEK_HOLE at {at}"))?;
    }
    file.truncate(0)?;
    file.truncate(5000)?;
    expect_errno(file.seek(0, libc::SEEK_DATA), libc::ENXIO, "SEEK_DATA where all is hole")?;
    expect_eq(file.seek(10, libc::SEEK_HOLE).or_fail("SEEK_HOLE")?, 10, "all is hole")
}

fn seek_data_and_seek_hole_before_the_start_are_enxio(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    expect_errno(file.seek(-1, libc::SEEK_DATA), libc::ENXIO, "SEEK_DATA at -1")?;
    expect_errno(file.seek(-1, libc::SEEK_HOLE), libc::ENXIO, "SEEK_HOLE at -1")
}

fn fsync_fdatasync_and_syncfs_succeed(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let dir = File::open(&t.dir, libc::O_RDONLY).or_fail("open of the directory")?;
    // SAFETY: plain calls on open descriptors.
    unsafe {
        for (what, fd) in [("file", file.as_raw_fd()), ("directory", dir.as_raw_fd())] {
            check(libc::fsync(fd)).or_fail(format_args!("fsync of a {what}"))?;
            check(libc::fdatasync(fd)).or_fail(format_args!("fdatasync of a {what}"))?;
        }
        check(libc::syncfs(file.as_raw_fd())).or_fail("syncfs")?;
        let reader = file.reopen(libc::O_RDONLY)?;
        check(libc::fsync(reader.as_raw_fd())).or_fail("fsync of a read-only descriptor")?;
    }
    file.expect_contents(b"data", "after syncing")
}

fn a_bad_buffer_is_efault_and_writes_nothing(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let bad = 8 as *mut u8;
    expect_errno(pwrite_from(&file, bad, 10, 0), libc::EFAULT, "pwrite")?;
    expect_errno(pread_to(&file, bad, 4, 0), libc::EFAULT, "pread")?;
    file.expect_contents(b"data", "after the failed calls")
}

fn a_bad_buffer_does_not_make_the_file_longer(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    for offset in [4, 100, BLOCK as i64, 10 * BLOCK as i64 + 5] {
        let written = pwrite_from(&file, 8 as *const u8, 10, offset);
        expect_errno(written, libc::EFAULT, format_args!("pwrite at {offset}"))?;
        file.expect_contents(b"data", "after the failed write")?;
    }
    Ok(())
}

/// Two pages of which the second is gone.
fn half_a_buffer() -> Outcome<Mapping> {
    let mut buffer = Mapping::anonymous(2 * BLOCK)?;
    buffer.store(0, &blocks(11, 1));
    buffer.unmap_from(BLOCK)?;
    Ok(buffer)
}

fn a_half_bad_buffer_writes_the_good_half(t: &Test) -> Outcome {
    let buffer = half_a_buffer()?;
    for (good, offset) in [(4096, 0), (100, 0), (100, 50), (100, 4090), (4096, 100), (1, 4095)] {
        for initial in [0, 3 * BLOCK] {
            let mut model = blocks(12, 3)[..initial].to_vec();
            let file = t.create_with("file", &model)?;
            let what = format!("{good} good bytes of {} at {offset}", good + 4000);
            let seen = pwrite_from(&file, buffer.at(BLOCK - good), good + 4000, offset as i64);
            let written = match seen {
                Ok(n) => n,
                Err(error) => {
                    expect_eq(error, Errno(libc::EFAULT), &what)?;
                    0
                }
            };
            expect(written <= good, format_args!("{what}: {written} bytes written"))?;
            if written > 0 {
                let end = offset + written;
                model.resize(model.len().max(end), 0);
                model[offset..end].copy_from_slice(&buffer.load(BLOCK - good, written));
            }
            file.expect_contents(&model, &what)?;
        }
    }
    Ok(())
}

fn a_half_bad_buffer_reads_the_good_half(t: &Test) -> Outcome {
    let data = blocks(13, 3);
    let file = t.create_with("file", &data)?;
    for (good, offset) in [(4096, 0), (100, 50), (100, 4090), (4096, 100)] {
        let buffer = half_a_buffer()?;
        let what = format!("{good} good bytes of 6000 at {offset}");
        match pread_to(&file, buffer.at(BLOCK - good), 6000, offset as i64) {
            Ok(n) => {
                expect(n <= good, format_args!("{what}: {n} bytes read"))?;
                expect_bytes(&buffer.load(BLOCK - good, n), &data[offset..offset + n], what)?;
            }
            Err(error) => expect_eq(error, Errno(libc::EFAULT), what)?,
        }
    }
    Ok(())
}

fn a_failed_write_into_a_hole_shows_no_foreign_bytes(t: &Test) -> Outcome {
    // Blocks that were used before are the ones that would show old bytes.
    t.create_with("file", &[0xee; 64 * BLOCK])?.truncate(0)?;
    let buffer = half_a_buffer()?;
    let file = t.create("file")?;
    file.truncate(8 * BLOCK64)?;
    for block in 0..8 {
        let at = block * BLOCK as i64 + 1000;
        let _ = pwrite_from(&file, buffer.at(BLOCK - 10), 3000, at);
    }
    for (i, block) in file.contents()?.chunks(BLOCK).enumerate() {
        let foreign = block.iter().filter(|&&b| b == 0xee).count();
        let outside = block[..1000].iter().chain(&block[1010..]).any(|&b| b != 0);
        expect(
            !outside,
            format_args!("block {i} is zeros around the failed write; {foreign} bytes are old ones"),
        )?;
    }
    Ok(())
}

fn writing_a_file_from_its_own_mapping_works(t: &Test) -> Outcome {
    let data = blocks(14, 8);
    for touched in [false, true] {
        let file = t.create_with("file", &data)?;
        file.truncate(16 * BLOCK64)?;
        let map = Mapping::shared(&file, 16 * BLOCK)?;
        if touched {
            map.load_all();
        }
        // From data into a hole, from a hole onto data, and shifted by odd amounts.
        let mut model = data.clone();
        model.resize(16 * BLOCK, 0);
        for (from, to, len) in [
            (0, 8 * BLOCK, 8 * BLOCK),
            (100, 4196, 4000),
            (8192, 20000, 9000),
            (12 * BLOCK, 0, BLOCK),
        ] {
            let n = pwrite_from(&file, map.at(from), len, to as i64)
                .or_fail("pwrite from a mapping of the same file")?;
            expect_eq(n, len, "bytes written from the own mapping")?;
            model.copy_within(from..from + len, to);
            file.expect_contents(&model, &format!("{len} bytes from {from} to {to}"))?;
        }
        expect_bytes(&map.load_all(), &model, "the mapping")?;
        let hole = t.create("hole")?;
        hole.truncate(4 * BLOCK64)?;
        let map = Mapping::shared(&hole, 4 * BLOCK)?;
        let n = pwrite_from(&hole, map.at(2 * BLOCK), 2 * BLOCK, 0).or_fail("pwrite from a hole")?;
        expect_eq(n, 2 * BLOCK, "bytes written from a hole of the same file")?;
        hole.expect_contents(&vec![0; 4 * BLOCK], "a hole copied onto a hole")?;
    }
    Ok(())
}

fn writing_a_page_from_itself_works(t: &Test) -> Outcome {
    let data = blocks(15, 4);
    let file = t.create_with("file", &data)?;
    let map = Mapping::shared(&file, 4 * BLOCK)?;
    for _ in 0..2 {
        // Once with the pages not yet mapped, once with them mapped.
        let n = pwrite_from(&file, map.at(0), 4 * BLOCK, 0).or_fail("pwrite onto itself")?;
        expect_eq(n, 4 * BLOCK, "bytes written onto themselves")?;
        file.expect_contents(&data, "written onto itself")?;
        map.load_all();
    }
    map.advise(libc::MADV_DONTNEED).or_fail("madvise")?;
    // Overlapping: every byte is the source's, from before or from during the write.
    let n = pwrite_from(&file, map.at(0), BLOCK, 100).or_fail("pwrite onto its own page")?;
    expect_eq(n, BLOCK, "bytes written")?;
    expect_bytes(&file.read_at(0, 100)?, &data[..100], "before the overlap")
}

fn reading_a_file_into_its_own_mapping_works(t: &Test) -> Outcome {
    let data = blocks(16, 4);
    let file = t.create_with("file", &data)?;
    file.truncate(8 * BLOCK64)?;
    let map = Mapping::shared(&file, 8 * BLOCK)?;
    let n = pread_to(&file, map.at(4 * BLOCK), 4 * BLOCK, 0).or_fail("pread into the own mapping")?;
    expect_eq(n, 4 * BLOCK, "bytes read into a hole of the same file")?;
    let mut model = data.clone();
    model.extend(&data);
    file.expect_contents(&model, "read into its own mapping")?;
    let n = pread_to(&file, map.at(0), 4 * BLOCK, 0).or_fail("pread onto itself")?;
    expect_eq(n, 4 * BLOCK, "bytes read onto themselves")?;
    file.expect_contents(&model, "read onto itself")
}

fn locks_and_leases_work_as_everywhere(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let other = file.reopen(libc::O_RDWR)?;
    let flock = |f: &File, operation| {
        // SAFETY: plain call on an open descriptor.
        check(unsafe { libc::flock(f.as_raw_fd(), operation) })
    };
    flock(&file, libc::LOCK_EX).or_fail("flock")?;
    let refused = flock(&other, libc::LOCK_EX | libc::LOCK_NB);
    expect_errno(refused, libc::EWOULDBLOCK, "a second flock")?;
    flock(&file, libc::LOCK_UN).or_fail("unlock")?;
    flock(&other, libc::LOCK_EX | libc::LOCK_NB).or_fail("flock after unlock")?;
    let record = |f: &File, kind: i32| {
        // SAFETY: a flock of zeros is a valid value.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as i16;
        lock.l_len = 2;
        // SAFETY: `lock` is valid for the call.
        check(unsafe { libc::fcntl(f.as_raw_fd(), libc::F_OFD_SETLK, &lock) })
    };
    record(&file, libc::F_WRLCK).or_fail("record lock")?;
    expect_errno(record(&other, libc::F_RDLCK), libc::EAGAIN, "a second record lock")
}

fn open_flags_are_accepted(t: &Test) -> Outcome {
    t.create_with("file", b"data")?;
    for flag in [
        libc::O_SYNC, libc::O_DSYNC, libc::O_NONBLOCK, libc::O_NOATIME, libc::O_NOCTTY,
        libc::O_NOFOLLOW, libc::O_LARGEFILE,
    ] {
        let file = File::open(t.path("file"), libc::O_RDWR | flag)
            .or_fail(format_args!("open with flag {flag:#o}"))?;
        file.write_at(b"data", 0)?;
        file.expect_contents(b"data", "through it")?;
    }
    let path = File::open(t.path("file"), libc::O_PATH).or_fail("open(O_PATH)")?;
    expect_errno(path.try_pread(&mut [0], 0), libc::EBADF, "pread on O_PATH")?;
    let (reader, writer) = crate::sys::pipe()?;
    write_from(&writer, b"p".as_ptr(), 1).or_fail("write")?;
    expect_eq(read_all(&reader, 1)?, b"p", "a pipe")
}

fn random_histories_match_the_model(t: &Test) -> Outcome {
    let repertoire = Repertoire {
        reflink: false,
        mappings: true,
    };
    for round in 0..3 {
        let seed = t.effort.seed + round;
        let mut history = History::new(&t.dir, seed, 3, 40, repertoire)?;
        history.run(t.rounds(200))?;
    }
    Ok(())
}

fn freed_blocks_show_no_old_bytes(t: &Test) -> Outcome {
    // One thread frees blocks full of a mark, the other must never read the mark.
    let marked = vec![0xee; 16 * BLOCK];
    let secret = t.create("secret")?;
    let reader = t.create("reader")?;
    let mut random = Random::new(t.effort.seed);
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
            expect(!seen.contains(&0xee), "a fresh file has no bytes of another one")
        }),
    ])
}
