// SPDX-License-Identifier: GPL-2.0 OR MIT
//! An LMDB database on this filesystem, used by several processes, and cloned meanwhile: each clone
//! is a database.

use std::path::Path;

use heed::types::{Bytes, Str};
use heed::{Database, Env, EnvFlags, EnvOpenOptions};

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, Context, Failure, Outcome};
use crate::filesystem::CLONES;
use crate::process::{in_child, Child};
use crate::sys::{exists, new_clone, sleep_ms, File};

pub const CASES: &[Case] = &[
    case!(two_processes_read_and_write_a_database),
    case!(clones_of_a_database_in_use_are_databases).needs(CLONES),
    case!(clones_of_a_mapped_database_in_use_are_databases).needs(CLONES),
];

/// The number of values that one transaction changes.
const VALUES: u64 = 20;

fn open(dir: &Path, flags: EnvFlags) -> Outcome<(Env, Database<Str, Bytes>)> {
    // SAFETY: only this test uses the files, by LMDB's own rules.
    let env = unsafe {
        let mut options = EnvOpenOptions::new();
        options.map_size(16 << 20).flags(flags).open(dir)
    }
    .or_fail("opening the database")?;
    let mut change = env.write_txn().or_fail("a transaction")?;
    let table = env
        .create_database(&mut change, None)
        .or_fail("the table")?;
    change.commit().or_fail("commit")?;
    Ok((env, table))
}

fn key(i: u64) -> String {
    format!("value-{i}")
}

/// Increments all values in one transaction. Returns them.
fn count(env: &Env, table: Database<Str, Bytes>) -> Outcome<u64> {
    let mut change = env.write_txn().or_fail("a transaction")?;
    let before = table
        .get(&change, &key(0))
        .or_fail("get")?
        .map_or(0, number);
    let after = before + 1;
    for i in 0..VALUES {
        // Of changing length, so that pages are split and merged.
        let value = after
            .to_le_bytes()
            .repeat(1 + ((after + i) * 37 % 150) as usize);
        table.put(&mut change, &key(i), &value).or_fail("put")?;
    }
    change.commit().or_fail("commit")?;
    Ok(after)
}

fn number(value: &[u8]) -> u64 {
    value[..8].try_into().map_or(0, u64::from_le_bytes)
}

/// Checks that all values are of one transaction. Returns its number.
fn check(env: &Env, table: Database<Str, Bytes>) -> Outcome<u64> {
    let look = env.read_txn().or_fail("a transaction")?;
    let first = table.get(&look, &key(0)).or_fail("get")?.map_or(0, number);
    for i in 0..VALUES {
        let Some(value) = table.get(&look, &key(i)).or_fail("get")? else {
            return match first {
                0 => Ok(0),
                _ => Err(Failure::new(format_args!(
                    "value {i} is missing, of transaction {first}"
                ))),
            };
        };
        let expected = first
            .to_le_bytes()
            .repeat(1 + ((first + i) * 37 % 150) as usize);
        expect(
            value == expected,
            format_args!("value {i} is that of transaction {first}"),
        )?;
    }
    Ok(first)
}

fn two_processes_read_and_write_a_database(t: &Test) -> Outcome {
    let dir = t.mkdir("database")?;
    let turns = t.rounds(100) as u64;
    let flags = EnvFlags::empty();
    let children = (0..2).map(|_| {
        Child::spawn(|| {
            let (env, table) = open(&dir, flags)?;
            let mut last = 0;
            for _ in 0..turns {
                let mine = count(&env, table)?;
                expect(mine > last, "transactions come one after the other")?;
                last = mine;
                expect(
                    check(&env, table)? >= mine,
                    "committed transactions are visible",
                )?;
            }
            Ok(())
        })
    });
    let children = children.collect::<Outcome<Vec<_>>>()?;
    children.into_iter().try_for_each(Child::join)?;
    in_child(|| {
        let (env, table) = open(&dir, flags)?;
        expect_eq(check(&env, table)?, 2 * turns, "transactions in the end")
    })
}

fn expect_clones(t: &Test, flags: EnvFlags) -> Outcome {
    let dir = t.mkdir("database")?;
    let stop = t.path("stop");
    in_child(|| open(&dir, flags).map(drop))?;
    let children = (0..2).map(|_| {
        Child::spawn(|| {
            let (env, table) = open(&dir, flags)?;
            // At least one, even if this process starts late.
            loop {
                count(&env, table)?;
                if exists(&stop) {
                    return Ok(());
                }
            }
        })
    });
    let children = children.collect::<Outcome<Vec<_>>>()?;
    let data = File::open(dir.join("data.mdb"), libc::O_RDONLY).or_fail("open")?;
    let rounds = t.rounds(20);
    for round in 0..rounds {
        let copy = t.mkdir(&format!("clone-{round}"))?;
        new_clone(&data, copy.join("data.mdb"))?;
        sleep_ms(5);
    }
    File::create(&stop)?;
    children.into_iter().try_for_each(Child::join)?;
    in_child(|| {
        let mut last = 0;
        for round in 0..rounds {
            let copy = t.path(&format!("clone-{round}"));
            let (env, table) = open(&copy, EnvFlags::empty())?;
            let seen = check(&env, table)?;
            expect(
                seen >= last,
                format_args!("clone {round} is not older than the one before"),
            )?;
            // A clone is a separate database.
            expect_eq(count(&env, table)?, seen + 1, "a transaction in the clone")?;
            last = seen;
        }
        let (env, table) = open(&dir, flags)?;
        let end = check(&env, table)?;
        expect(
            end >= last && end > 0,
            format_args!("{end} transactions, {last} in the last clone"),
        )
    })
}

fn clones_of_a_database_in_use_are_databases(t: &Test) -> Outcome {
    expect_clones(t, EnvFlags::empty())
}

fn clones_of_a_mapped_database_in_use_are_databases(t: &Test) -> Outcome {
    expect_clones(t, EnvFlags::WRITE_MAP)
}
