#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
# Add packages to a signed apt repository, which is made where there is none: a folder for any web server.
# Usage: repository.sh KEY FOLDER PACKAGE.deb… ; KEY is gpg's name of a secret key (fingerprint, address).
# One suite for each release, named as the packages' versions end: deb13, ubuntu24.04.
set -euo pipefail

die() {
  echo "veilleuse: $*" >&2
  exit 1
}
[ $# -ge 3 ] && [ -n "$1" ] || die "usage: repository.sh KEY FOLDER PACKAGE.deb…; with make: make apt-repository KEY=…"
key=$1
folder=$2
shift 2
command -v apt-ftparchive gpg >/dev/null || die "apt-ftparchive and gpg are needed: apt-get install apt-utils gnupg"
gpg --batch --list-secret-keys "$key" >/dev/null 2>&1 || die "gpg has no secret key '$key': gpg --list-secret-keys"

suites=()
for package in "$@"; do
  [ -e "$package" ] || die "no package $package: run make packages first"
  version=$(dpkg-deb --field "$package" Version)
  suite=${version##*+}
  mkdir -p "$folder/pool/$suite"
  cp "$package" "$folder/pool/$suite/"
  suites+=("$suite")
done

cd "$folder"
gpg --batch --armor --export "$key" >veilleuse.asc
for suite in $(printf '%s\n' "${suites[@]}" | sort -u); do
  new=dists/$suite.new
  rm -rf "$new"
  architectures=$(for package in pool/"$suite"/*.deb; do dpkg-deb --field "$package" Architecture; done | sort -u | grep -v '^all$')
  for architecture in $architectures; do # those for all are listed in each
    mkdir -p "$new/main/binary-$architecture"
    apt-ftparchive --arch "$architecture" packages "pool/$suite" >"$new/main/binary-$architecture/Packages"
    xz --keep "$new/main/binary-$architecture/Packages"
  done
  apt-ftparchive -o APT::FTPArchive::Release::Origin=Veilleuse -o APT::FTPArchive::Release::Suite="$suite" \
    -o APT::FTPArchive::Release::Codename="$suite" -o APT::FTPArchive::Release::Components=main \
    -o APT::FTPArchive::Release::Architectures="${architectures//$'\n'/ }" release "$new" >Release.new
  gpg --batch --yes --local-user "$key" --clearsign --output "$new/InRelease" Release.new
  rm Release.new
  rm -rf "dists/$suite"
  mv "$new" "dists/$suite"
done
echo "veilleuse: $folder is ready: copy it to a web server; machines trust veilleuse.asc"
