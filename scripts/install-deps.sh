#!/bin/bash
# Installs the Debian or Ubuntu packages that Molt is built from, only those that are missing; silent if none is.
# usage: install-deps.sh [test] [bench] [format] [arm] [fuzz]      what is wanted beyond building the program
set -eu

packages=(cmake ninja-build g++ pkg-config libdnnl-dev libhwy-dev nlohmann-json3-dev libcli11-dev libyaml-cpp-dev
  libpcre2-dev libutf8proc-dev)
for group in "$@"; do
  case $group in
    test) packages+=(libgtest-dev python3) ;;
    bench) packages+=(libbenchmark-dev) ;;
    format) packages+=(clang-format-14) ;;
    fuzz) packages+=(clang libomp-dev) ;;
    arm) packages+=(g++-aarch64-linux-gnu qemu-user) ;;
    *) echo "install-deps: no group is called '$group'; there is: test, bench, format, arm, fuzz" >&2; exit 2 ;;
  esac
done

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  echo "install-deps: no apt-get here; install what stands for these Debian packages, then run cmake --preset release" \
    "&& cmake --build build: ${packages[*]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  # A package of another name may provide it (pkgconf does for pkg-config on some releases).
  dpkg-query -W -f='${Status}\n' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

root=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install-deps: run this as root, or have root do: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  root=(sudo)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" >"$log" 2>&1; }
echo "installing ${missing[*]}"
if ! { apt update && apt install -y --no-install-recommends "${missing[@]}"; }; then
  tail -n 5 "$log" >&2
  echo "install-deps: apt-get could not install ${missing[*]} (Debian 12 and Ubuntu 24.04 with universe have them)" >&2
  exit 1
fi
