# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The cache: one directory for each part, named by a hash of its inputs.
#
# A part NAME is a few functions: NAME_needs prints the parts it depends on, NAME_inputs its other
# inputs, NAME_mib its size, NAME_hint a possible reason for a failure; NAME_make DIR fills DIR. A
# part is made in DIR.part and renamed when complete, under a lock: a directory with the final name
# is complete, however the last run ended.

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/reflinkfs$VARIANT
LOGS=$CACHE/logs

# Hashes the body of NAME_make, too. `declare -f` prints it without comments and formatting, so that
# only a change of the code makes the part again.
part_key() {
	{ declare -f "$1_make"; "$1_inputs"; } | sha256sum | cut -c1-12
}

part_dir() { printf '%s\n' "$CACHE/$1-$(part_key "$1")"; }

# part_ensure NAME: makes the part if it is not there.
part_ensure() {
	local name=$1 dir lock need
	for need in $("$1_needs"); do part_ensure "$need"; done
	dir=$(part_dir "$name")
	if [ -d "$dir" ]; then
		touch -c "$dir"
		return
	fi
	mkdir -p "$CACHE" "$LOGS"
	exec {lock}>"$dir.lock"
	if ! flock -n "$lock"; then
		say "another run is making the part '$name'; waiting for it"
		flock "$lock"
	fi
	if [ ! -d "$dir" ]; then
		# Keeps the directory of an interrupted run only if NAME_make can resume there.
		declare -F "$1_resumes" >/dev/null || remove_tree "$dir.part"
		disk_space_check "$("$1_mib")" "$name"
		mkdir -p "$dir.part"
		STEP_HINT=$("$1_hint") "$1_make" "$dir.part"
		sync -f "$dir.part"
		mv -T "$dir.part" "$dir"
		forget_old_parts "$name" "$dir"
	fi
	exec {lock}>&-
}

# A part with another key may belong to another checkout, unless it was not used for two weeks.
forget_old_parts() {
	local old
	for old in "$CACHE/$1"-????????????{,.part,.lock}; do
		if [[ $old != "$2"* ]] && [ -n "$(find "$old" -maxdepth 0 -mtime +14 2>/dev/null)" ]; then
			say "removing $old, unused for two weeks"
			remove_tree "$old"
		fi
	done
}

# remove_tree DIR...: removes trees, also those of a mapped root (see namespace.sh).
remove_tree() {
	local dir
	for dir; do
		[ -e "$dir" ] || continue
		chmod -R u+w "$dir" 2>/dev/null || true
		if ((EUID)); then "${NAMESPACE[@]}" rm -rf -- "$dir"; else rm -rf -- "$dir"; fi
	done
}

disk_space_check() {
	local free
	free=$(df --output=avail -m "$CACHE" | tail -n1)
	((free >= $1)) || die "the part '$2' needs $1 MiB, $CACHE has $((free)) MiB free; free some, or set XDG_CACHE_HOME to a directory on a larger filesystem"
}
