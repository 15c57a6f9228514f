#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Prints the KUnit suites, "SUITE COUNT" each, and checks that every test is run.

exit status: 0, or 1 if a `#[test]` is in no suite, a file of suites/ is not built, or the table
in reflinkfs_kunit.rs has other suites than there are
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SUITE = re.compile(
    r"#\[(?:kernel::macros::)?kunit_tests\((\w+)\)\]\nmod \w+ \{\n(.*?)^\}", re.M | re.S
)
TEST = re.compile(r"^\s*#\[test\]$", re.M)
ROW = re.compile(r"^//! \| `(\w+)` \| `([\w.]+)` \|", re.M)


def suites(path, text):
    """Returns the suites of a file, as {name: number of tests}."""
    found = {name: len(TEST.findall(tests)) for name, tests in SUITE.findall(text)}
    if sum(found.values()) != len(TEST.findall(text)):
        errors.append(f"{path}: a test is in no suite")
    errors.extend(f"{path}: {name} has no test" for name, count in found.items() if not count)
    return found


def doctests():
    """Returns the suite that the build generates."""
    rust = HERE.parent / "rust"
    files = [path for folder in ("store", "vfs") for path in (rust / folder).rglob("*.rs")]
    command = [HERE / "doctests.py", *files]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


errors = []
found, rows = {}, {}
module = (HERE / "suites/mod.rs").read_text()
for path in sorted(HERE.rglob("*.rs")):
    here = suites(path.relative_to(HERE), path.read_text())
    found |= here
    rows |= {name: path.name for name in here}
    if here and not re.search(rf"^mod {path.stem};", module, re.M):
        errors.append(f"{path.relative_to(HERE)}: not in suites/mod.rs")
found |= suites("doctests.py", doctests())
rows["reflinkfs_doctests"] = "doctests.py"

table = dict(ROW.findall((HERE / "reflinkfs_kunit.rs").read_text()))
for name in sorted(table.keys() | rows.keys()):
    if table.get(name) != rows.get(name):
        errors.append(f"{name}: {rows.get(name)}, but {table.get(name)} in reflinkfs_kunit.rs")

for name, count in sorted(found.items()):
    print(name, count)
sys.exit("\n".join(errors) or None)
