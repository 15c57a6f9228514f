# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The packages that this machine needs, and the archive they come from.

# command:package, one a line. Everything else (compilers, kernel tools, QEMU, virtiofsd) is in
# the toolchain root; no package of another suite is installed on this machine.
HOST_NEEDS='
mmdebstrap:mmdebstrap
cpio:cpio
flock:util-linux
make:make
ps:procps
'

host_check() {
	local line missing=() sudo=() command
	# An ordinary user's namespaces are set up with newuidmap.
	((EUID == 0)) || HOST_NEEDS+=' newuidmap:uidmap'
	for line in $HOST_NEEDS; do
		command -v "${line%%:*}" >/dev/null || missing+=("${line#*:}")
	done
	# Ubuntu has mmdebstrap, but does not know Debian's signatures.
	[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
	((${#missing[@]})) || return 0
	command="apt-get install --no-install-recommends ${missing[*]}"
	if ! command -v apt-get >/dev/null; then
		die "this machine lacks ${missing[*]} (Debian's names); install them and run this again"
	fi
	if ((EUID)); then
		if ! command -v sudo >/dev/null || ! { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
			die "this machine lacks ${missing[*]}; as root: apt-get update && $command"
		fi
		sudo=(sudo)
	fi
	mkdir -p "$LOGS"
	# shellcheck disable=SC2317,SC2329 # called through step
	install_missing() {
		"${sudo[@]}" apt-get update
		"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
	}
	step "$LOGS/host.log" "installing on this machine: ${missing[*]}" install_missing
}

# host_apt_options: prints options for mmdebstrap, which keeps them in what it makes: those that this
# machine's apt has for the archive: its proxy, and whether an old list of packages will do.
host_apt_options() {
	printf '%s\n' '--aptopt=Acquire::Retries "3"'
	apt-config dump | sed -nE 's/;$//; /^Acquire::(.*[Pp]roxy|Check-Valid-Until)/s/^/--aptopt=/p'
}

# host_mirror: prints the Debian archive of this machine's apt (deb822 or one-line), or $MIRROR.
host_mirror() {
	local uri
	if [ -n "${MIRROR:-}" ]; then
		printf '%s\n' "$MIRROR"
		return
	fi
	uri=$(
		{
			cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
				sed -n 's/^URIs:[[:space:]]*//p' | tr '[:blank:]' '\n'
			cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
				sed -nE 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p'
		} | sed 's,/*$,,' | grep -E '/debian$' | head -n1
	) || true
	[ -n "$uri" ] || die "no Debian archive in this machine's apt sources; name one: MIRROR=http://HOST/debian $0 ..."
	printf '%s\n' "$uri"
}
