// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Clones of clones that outlive each other, and long random histories.

use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, Context, Outcome};
use crate::filesystem::{CLONES, CLONES_COUNTED};
use crate::model::{History, Repertoire};
use crate::pattern::{blocks, pattern, Random, BLOCK, BLOCK64};
use crate::sys::{new_clone, unlink};

pub const CASES: &[Case] = &[
    case!(a_clone_outlives_its_source).needs(CLONES),
    case!(an_unlinked_open_file_can_be_cloned).needs(CLONES),
    case!(a_chain_of_clones_keeps_every_version).needs(CLONES),
    case!(a_hundred_clones_of_one_file_are_independent).needs(CLONES),
    case!(random_histories_match_the_model).needs(CLONES),
    case!(random_histories_leave_no_space_behind).needs(CLONES_COUNTED),
];

fn a_clone_outlives_its_source(t: &Test) -> Outcome {
    let data = blocks(49, 70);
    let source = t.create_with("source", &data)?;
    let clone = new_clone(&source, t.path("clone"))?;
    drop(source);
    unlink(t.path("source")).or_fail("unlink")?;
    for i in 0..4 {
        t.create_with(&format!("other-{i}"), &blocks(50 + i, 70))?;
    }
    clone.expect_contents(
        &data,
        "the clone after its source went and blocks were reused",
    )
}

fn an_unlinked_open_file_can_be_cloned(t: &Test) -> Outcome {
    let data = pattern(51, 10_000);
    let source = t.create_with("source", &data)?;
    unlink(&source.path).or_fail("unlink")?;
    let clone = new_clone(&source, t.path("clone"))?;
    drop(source);
    clone.expect_contents(&data, "a clone of an unlinked file")
}

fn a_chain_of_clones_keeps_every_version(t: &Test) -> Outcome {
    let mut random = Random::new(t.settings.seed);
    let mut model = blocks(52, 20);
    let mut newest = t.create_with("version-0", &model)?;
    let mut versions = Vec::new();
    for i in 1..=t.rounds(40) {
        let clone = new_clone(&newest, t.path(&format!("version-{i}")))?;
        versions.push((newest, model.clone()));
        let offset = random.below(19 * BLOCK);
        let len = 1 + random.below(BLOCK);
        let data = random.bytes(len);
        clone.write_at(&data, offset as u64)?;
        model[offset..offset + data.len()].copy_from_slice(&data);
        newest = clone;
    }
    versions.push((newest, model));
    for (i, (file, model)) in versions.iter().enumerate() {
        file.expect_contents(model, &format!("version {i}"))?;
    }
    // Removes every second clone; the others stay.
    for (i, (file, _)) in versions.iter().enumerate().skip(1).step_by(2) {
        unlink(&file.path).or_fail(format_args!("unlink version {i}"))?;
        file.truncate(0)?;
    }
    for (i, (file, model)) in versions.iter().enumerate().step_by(2) {
        file.expect_contents(model, &format!("version {i} after others went"))?;
    }
    Ok(())
}

fn a_hundred_clones_of_one_file_are_independent(t: &Test) -> Outcome {
    let data = blocks(53, 8);
    let source = t.create_with("source", &data)?;
    let count = t.rounds(100);
    let clones = (0..count)
        .map(|i| {
            let clone = new_clone(&source, t.path(&format!("clone-{i}")))?;
            clone.write_at(&(i as u64).to_le_bytes(), (i % 8) as u64 * BLOCK64)?;
            Ok(clone)
        })
        .collect::<Outcome<Vec<_>>>()?;
    for (i, clone) in clones.iter().enumerate() {
        let mut model = data.clone();
        model[(i % 8) * BLOCK..][..8].copy_from_slice(&(i as u64).to_le_bytes());
        clone.expect_contents(&model, &format!("clone {i}"))?;
    }
    source.expect_contents(&data, "the source")
}

fn random_histories_match_the_model(t: &Test) -> Outcome {
    let repertoire = Repertoire {
        reflink: true,
        mappings: true,
    };
    for (round, max_blocks) in [(0, 12), (1, 30), (2, 150)] {
        let seed = t.settings.seed + round;
        let mut history = History::new(&t.dir, seed, 4, max_blocks, repertoire)?;
        history.run(t.rounds(250))?;
    }
    Ok(())
}

fn random_histories_leave_no_space_behind(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "16M"), ("nr_inodes", "1000")])?;
    let before = fs.space()?;
    let repertoire = Repertoire {
        reflink: true,
        mappings: true,
    };
    for round in 0..4 {
        let seed = t.settings.seed + 100 + round;
        let mut history = History::new(&fs.root, seed, 4, 80, repertoire)?;
        history.run(t.rounds(150))?;
        drop(history);
        for i in 0..4 {
            unlink(fs.path(&format!("history-{i}"))).or_fail("unlink")?;
        }
        expect_eq(
            fs.space()?,
            before,
            format_args!("space after the history of seed {seed}"),
        )?;
    }
    Ok(())
}
