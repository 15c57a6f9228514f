# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Messages of the scripts. They go to stderr, so that stdout has only the output of commands.

say()  { printf '%s\n' "reflinkfs: $*" >&2; }
note() { printf '%s\n' "reflinkfs: note: $*" >&2; }
die()  { printf '%s\n' "reflinkfs: error: $*" >&2; exit 1; }

# elapsed SECONDS: 75 -> 1m15s
elapsed() {
	if (($1 < 60)); then printf '%ds' "$1"; else printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); fi
}
