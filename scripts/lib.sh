# Shared by the scripts beside it; sourced, not run. Sets `root` (the tree) and `cache` (everything that
# is fetched or made: always inside the tree, git-ignored).
# shellcheck shell=bash
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${QVMD_CACHE:-$root/.cache}
mkdir -p "$cache"
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '%s\n' "$*" >&2; }
fail() { say "${0##*/}: $*"; exit 1; }

# as_root COMMAND...: runs it as root, by sudo where needed.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

installed() { [ "$(dpkg-query -W -f '${Status}' "$1" 2>/dev/null)" = "install ok installed" ]; }

# Package lists, at most once per script and only when something is to be fetched.
lists_fresh=no
refresh_lists() {
  [ $lists_fresh = no ] || return 0
  lists_fresh=yes
  as_root apt-get update -qq >/dev/null 2>&1 || say "apt-get update failed; going on with the lists at hand"
}

# need_packages NAME...: installs what is missing.
need_packages() {
  local p missing=()
  for p in "$@"; do installed "$p" || missing+=("$p"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "missing: ${missing[*]} (no apt-get to install them with)"
  say "installing ${missing[*]}"
  refresh_lists
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" >"$cache/apt.log" 2>&1 || { cat "$cache/apt.log" >&2; fail "cannot install ${missing[*]}"; }
}

# need_commands COMMAND=PACKAGE...: installs the package where the command is missing, whoever else gave it.
need_commands() {
  local pair packages=()
  for pair in "$@"; do command -v "${pair%%=*}" >/dev/null || packages+=("${pair#*=}"); done
  [ ${#packages[@]} = 0 ] || need_packages "${packages[@]}"
}

# unpack_packages DIRECTORY NAME[=VERSION]...: their files, beside the system and not in it.
unpack_packages() {
  local into=$1 d; shift
  refresh_lists
  mkdir -p "$into/deb"
  (cd "$into/deb" && for d in "$@"; do apt-get download -qq "$d" >/dev/null 2>&1 || say "cannot fetch $d"; done)
  for d in "$into"/deb/*.deb; do dpkg-deb -x "$d" "$into"; done
  rm -rf "$into/deb"
}

# debian_kernel: unpacks Debian's generic kernel with its modules, and a static busybox; sets
# kernel_dir and kernel_version. Once per tree.
debian_kernel() {
  kernel_dir=$cache/debian-kernel
  if [ ! -e "$kernel_dir/done" ]; then
    need_commands depmod=kmod xz=xz-utils zstd=zstd
    say "fetching Debian's kernel"
    rm -rf "$kernel_dir"; mkdir -p "$kernel_dir"
    refresh_lists
    local package
    package=$(apt-cache depends linux-image-amd64 | grep -o 'linux-image-[0-9][^ ]*' | head -1)
    [ -n "$package" ] || fail "no package linux-image-amd64 (are Debian's sources set up?)"
    unpack_packages "$kernel_dir" "$package" busybox-static
    # With a merged /usr the modules and busybox lie below usr.
    local part
    for part in lib/modules bin/busybox; do
      [ -e "$kernel_dir/$part" ] || { mkdir -p "$kernel_dir/${part%/*}"; mv "$kernel_dir/usr/$part" "$kernel_dir/$part"; }
    done
    depmod -b "$kernel_dir" "$(ls "$kernel_dir/lib/modules")"
    touch "$kernel_dir/done"
  fi
  kernel_version=$(ls "$kernel_dir/lib/modules")
}

# debian_tree DIRECTORY: a fresh Debian in there, with systemd as its init, made by debootstrap from the mirror that
# this machine uses; once, and kept in the cache. Needs root.
debian_tree() {
  local into=$1 base=$cache/debian-tree.tar mirror suite
  if [ ! -e "$base" ]; then
    # shellcheck disable=SC2016 # names for apt
    read -r mirror suite < <(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
      grep -v -e '-security' -e '-updates' -e '-backports' | head -1)
    [ -n "${suite:-}" ] || fail "apt has no source to make a Debian from"
    say "making a Debian ($suite)"
    debootstrap --variant=minbase --include=adduser,mandoc,systemd,systemd-sysv,dbus,zsh "$suite" "$into" "$mirror" >"$cache/debootstrap.log" 2>&1 ||
      { tail -5 "$cache/debootstrap.log" >&2; fail "debootstrap failed"; }
    rm -rf "$into"/var/cache/apt/archives/*.deb "$into"/var/lib/apt/lists/*
    tar -C "$into" -cf "$base.new" . && mv "$base.new" "$base"
  else
    tar -C "$into" -xf "$base"
  fi
  # Users have to get in.
  chmod 755 "$into"
}

# copy_modules DIRECTORY NAME...: the modules and what they depend on, unpacked, into DIRECTORY, with
# their order of loading in DIRECTORY/order. Names that are built in, or that this kernel lacks, are skipped.
copy_modules() {
  local into=$1 name line file plain; shift
  local tree=$kernel_dir/lib/modules/$kernel_version
  mkdir -p "$into"; : >"$into/order"
  for name in "$@"; do
    line=$(grep -m1 "^[^:]*/$name\.ko[.:]" "$tree/modules.dep" || true)
    [ -n "$line" ] || continue
    for file in $(tr ' ' '\n' <<<"${line/:/}" | tac); do
      plain=${file##*/}; plain=${plain%.xz}; plain=${plain%.zst}
      [ ! -e "$into/$plain" ] || continue
      case $file in
        *.xz) xz -dc "$tree/$file" ;;
        *.zst) zstd -qdc "$tree/$file" ;;
        *) cat "$tree/$file" ;;
      esac >"$into/$plain"
      echo "$plain" >>"$into/order"
    done
  done
}

# need_rust: cargo of the version that rust-toolchain.toml names, and a linker.
need_rust() {
  need_commands cc=gcc
  [ -e /usr/include/stdlib.h ] || need_packages libc6-dev
  [ ! -d "$HOME/.cargo/bin" ] || export PATH=$HOME/.cargo/bin:$PATH
  if ! command -v cargo >/dev/null && ! command -v rustup >/dev/null; then
    refresh_lists
    apt-cache policy rustup | grep -q 'Candidate: [0-9]' ||
      fail "no Rust here, and this Debian release has no package rustup: install Rust $(rust_wanted) or newer (see rust-lang.org) and come again"
    need_packages rustup
  fi
  # rustup fetches the toolchain that the tree asks for; a cargo of another origin has to be new enough itself.
  if command -v rustup >/dev/null; then
    (cd "$root" && { rustup toolchain install || rustup show; }) >"$cache/rustup.log" 2>&1 ||
      { cat "$cache/rustup.log" >&2; fail "rustup cannot fetch Rust $(rust_wanted)"; }
  fi
  (cd "$root" && cargo --version >/dev/null) || fail "cargo does not run"
  local have
  have=$(cd "$root" && rustc --version | cut -d' ' -f2)
  [ "$(printf '%s\n' "$(rust_wanted)" "$have" | sort -V | head -1)" = "$(rust_wanted)" ] ||
    fail "Rust $have is too old: this needs $(rust_wanted)"
}
# need_rust_parts: what the test suite needs of Rust beside the compiler, where rustup can fetch it.
need_rust_parts() {
  command -v rustup >/dev/null || return 0
  local have
  have=$(cd "$root" && rustup component list --installed && rustup target list --installed)
  grep -q '^rustfmt' <<<"$have" && grep -q '^clippy' <<<"$have" && grep -qx x86_64-unknown-none <<<"$have" && grep -qx x86_64-unknown-linux-musl <<<"$have" && return
  (cd "$root" && rustup component add rustfmt clippy && rustup target add x86_64-unknown-none x86_64-unknown-linux-musl) >"$cache/rustup.log" 2>&1 ||
    { cat "$cache/rustup.log" >&2; say "rustup cannot fetch rustfmt, clippy and the targets x86_64-unknown-none and -linux-musl; going on"; }
}
rust_wanted() { sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml"; }

# kvm_usable: is there a /dev/kvm that this user may open?
kvm_usable() { [ -c /dev/kvm ] && [ -r /dev/kvm ] && [ -w /dev/kvm ]; }

# why_no_kvm: in words, after kvm_runs_linux said no.
why_no_kvm() {
  if [ ! -c /dev/kvm ]; then echo "this machine has no /dev/kvm"
  elif ! kvm_usable; then echo "/dev/kvm may not be opened by this user (it belongs to the group $(stat -c %G /dev/kvm))"
  else echo "this machine's /dev/kvm cannot run Linux"; fi
}

# kvm_runs_linux PROGRAM: whether /dev/kvm here can run a Linux kernel, and so the guest suite, directly.
# Without hardware virtualization (some clouds give a /dev/kvm that interprets privileged code) it cannot;
# with it, a real boot of PROGRAM decides. A yes is kept, per kernel of this machine.
kvm_runs_linux() {
  kvm_usable || return 1
  grep -qwE 'vmx|svm' /proc/cpuinfo || return 1
  local known
  known=$cache/kvm-runs-linux.$(uname -r)
  [ ! -e "$known" ] || return 0
  "$root/scripts/guest-artifacts"
  local console
  console=$(mktemp)
  timeout -k 5 60 "$1" -M q35,accel=kvm -cpu host -m 512 -nodefaults -display none -no-reboot -serial stdio \
    -kernel "$cache/guest/bzImage" -initrd "$cache/guest/initrd" -append "console=ttyS0 panic=-1 poweroff" \
    >"$console" 2>/dev/null </dev/null || true
  if grep -q QVMD-GUEST-READY "$console"; then touch "$known"; rm -f "$console"; return 0; fi
  rm -f "$console"; return 1
}
