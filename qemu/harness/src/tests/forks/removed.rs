// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Files that lose a name in one mount and keep it in the others.

use super::contents::fork;
use crate::case::{case, Case, Test};
use crate::eviction::drop_caches;
use crate::failure::{expect, expect_eq, Context, Failure, Outcome};
use crate::filesystem::FORKS;
use crate::instance::Instance;
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK};
use crate::sys::{link, lstat, rename, unlink, File};

pub const CASES: &[Case] =
    &[case!(a_file_removed_in_one_mount_stays_as_it_was_in_the_others).needs(FORKS)];

/// How a file is in use when it is removed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Use {
    None,
    Open,
    Mapped,
    Stored,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Removal {
    Unlink,
    Rename,
    OneOfTwo,
}

#[derive(Clone, Copy, Debug)]
struct Scene {
    how: Use,
    removal: Removal,
    /// Which of base, fork, fork of the fork it is removed in.
    which: usize,
    /// Whether the file was used before the first fork, or after the last.
    early: bool,
    /// Whether the caches are emptied before.
    empties: bool,
}

impl Scene {
    fn hold(&self, fs: &Instance) -> Outcome<Option<(File, Option<Mapping>)>> {
        if self.how == Use::None {
            return Ok(None);
        }
        let file = File::open(fs.path("file"), libc::O_RDWR).or_fail("open")?;
        let map = match self.how {
            Use::Open => None,
            _ => Some(Mapping::shared(&file, BLOCK)?),
        };
        if self.how == Use::Stored {
            if let Some(map) = &map {
                map.store(5, b"stored");
            }
        }
        Ok(Some((file, map)))
    }

    fn play(&self, t: &Test) -> Outcome {
        let base = t.mount_at("base", &[])?;
        base.create_with("file", &blocks(1, 1))?;
        base.create_with("other", b"other")?;
        let names = match self.removal {
            Removal::OneOfTwo => 2,
            _ => 1,
        };
        if names == 2 {
            link(base.path("file"), base.path("second")).or_fail("link")?;
        }
        let early = match self.early && self.which == 0 {
            true => self.hold(&base)?,
            false => None,
        };
        let one = fork(t, &base, "one")?;
        let two = fork(t, &one, "two")?;
        let all = [&base, &one, &two];
        let fs = all[self.which];
        let late = match early {
            None => self.hold(fs)?,
            Some(_) => None,
        };
        if self.empties {
            drop_caches(t)?;
        }
        match self.removal {
            Removal::Unlink | Removal::OneOfTwo => unlink(fs.path("file")).or_fail("unlink")?,
            Removal::Rename => rename(fs.path("other"), fs.path("file")).or_fail("rename")?,
        }
        let check = |what: &str| -> Outcome {
            for (i, other) in all.iter().enumerate() {
                if i != self.which {
                    let stat = lstat(other.path("file")).or_fail("lstat")?;
                    expect_eq(stat.st_nlink, names, format_args!("links in {i}, {what}"))?;
                }
            }
            Ok(())
        };
        check("at once")?;
        drop_caches(t)?;
        check("read again")?;
        // What is open is used once more.
        if let Some((file, map)) = early.as_ref().or(late.as_ref()) {
            expect_eq(file.stat()?.st_nlink, names - 1, "links of the open file")?;
            file.contents()?;
            drop_caches(t)?;
            check("after a read")?;
            if let Some(map) = map {
                map.store(9, b"again");
            }
            file.write_at(b"again", 20)?;
            drop_caches(t)?;
            check("after a write")?;
        }
        drop((early, late));
        drop_caches(t)?;
        check("when it is closed")?;
        expect(
            lstat(base.path("other")).is_ok() || self.which == 0,
            "the other file",
        )
    }
}

fn a_file_removed_in_one_mount_stays_as_it_was_in_the_others(t: &Test) -> Outcome {
    let mut failures = Vec::new();
    // On a slow kernel a part of them.
    let mut number = t.settings.seed as usize;
    for how in [Use::None, Use::Open, Use::Mapped, Use::Stored] {
        for removal in [Removal::Unlink, Removal::Rename, Removal::OneOfTwo] {
            for which in 0..3 {
                for early in [false, true] {
                    for empties in [false, true] {
                        number = number.wrapping_add(1);
                        if number % t.settings.divisor != 0 {
                            continue;
                        }
                        let scene = Scene {
                            how,
                            removal,
                            which,
                            early,
                            empties,
                        };
                        if let Err(Failure(text)) = scene.play(t) {
                            failures.push(format!("{scene:?}: {text}"));
                        }
                    }
                }
            }
        }
    }
    let count = failures.len();
    failures.truncate(20);
    expect(
        failures.is_empty(),
        format_args!("{count} scenes, of them:\n{}", failures.join("\n")),
    )
}
