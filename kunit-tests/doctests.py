#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Prints a KUnit suite of the examples in doc comments.

usage: doctests.py FILE...

What rustdoc and scripts/rustdoc_test_gen.rs do for rust/kernel of the kernel, for our files: each
block between ``` becomes a test, named by its file and by what it documents. A line that begins
with "# " belongs to the test, and not to the document. Of a ```no_run block the test is compiled
and not run. Blocks of another language, such as ```text, are no examples.

exit status: 0, or 1 if there is no example, or one that has no end
"""

import re
import sys

DOC = re.compile(r"\s*//[/!] ?(.*)")
ITEM = re.compile(r"(?:pub(?:\([\w: ]+\))? |const |unsafe )*(?:fn|struct|enum|trait|type) (\w+)")
MODULE = re.compile(r".*?\brust/(.+?)(?:/mod)?\.rs")
# As in scripts/rustdoc_test_gen.rs: the last line of an example that uses `?`.
RESULT = "Ok::<(), Error>(())"


def examples(path):
    """Yields of each example of a file: the number of its line, the name of what it documents,
    whether it runs, and its lines."""
    waiting, fence, code = [], None, []
    with open(path, encoding="utf-8") as source:
        for number, line in enumerate(source, 1):
            doc = DOC.fullmatch(line.rstrip("\n"))
            if not doc:
                if fence is not None:
                    sys.exit(f"{path}:{number}: the example before it has no end")
                item = ITEM.match(line.strip())
                if item or not line.strip().startswith("#["):
                    name = item[1] if item else "module"
                    yield from ((at, name, runs, code) for at, runs, code in waiting)
                    waiting = []
            elif doc[1].startswith("```"):
                if fence is None:
                    fence, code = doc[1][3:].strip(), []
                    begin = number
                else:
                    if fence in ("", "rust", "no_run"):
                        waiting.append((begin, fence != "no_run", code))
                    fence = None
            elif fence is not None:
                code.append(re.sub(r"^(\s*)#(?: |$)", r"\1", doc[1]))


def test(path, name, number, runs, code):
    """Returns the source of a test."""
    result = " -> ::kernel::error::Result" if code[-1].strip() == RESULT else ""
    lines = [f"// {path}:{number}", "#[test]" if runs else "#[allow(dead_code)]"]
    lines += [f"fn {name}(){result} {{", *("    " + line for line in code), "}"]
    return "\n".join(("    " + line).rstrip() for line in lines) + "\n"


def main():
    tests, names = [], {}
    for path in sorted(sys.argv[1:]):
        module = MODULE.fullmatch(path)[1].replace("/", "_")
        for number, item, runs, code in examples(path):
            name = f"{module}_{item}".lower()
            names[name] = names.get(name, 0) + 1
            if names[name] > 1:
                name += f"_{names[name]}"
            tests.append(test(path[path.rindex("rust/") :], name, number, runs, code))
    if not tests:
        sys.exit("no examples")
    print("#[kernel::macros::kunit_tests(reflinkfs_doctests)]\nmod doctests {")
    print(*tests, "}", sep="\n")


main()
