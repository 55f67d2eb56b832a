#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
# Build the Debian packages for the release this machine runs, with its Python. Usage: build.sh OUTPUT_FOLDER
# VERSION=0.1.9 gives the packages another version than pyproject.toml's. WHEEL=FILE packages that wheel, not this checkout's.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1"
output=$(cd "$1" && pwd)
python=/usr/bin/python3 # the release's own: the packages contain extensions for it
umask 022

die() {
  echo "veilleuse: $*" >&2
  exit 1
}
needs=$(sed -n 's/^Build-Depends: //p' "$root/deploy/debian/debian/control")
command -v dpkg-buildpackage >/dev/null || die "no dpkg-buildpackage here: apt-get install dpkg-dev"
dpkg-checkbuilddeps -I -d "$needs" /dev/null 2>/dev/null || die "not all is here to build with: apt-get satisfy '$needs'"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "the Python of this release is older than 3.11"

version=${VERSION:-$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/pyproject.toml")}
release=$(. /etc/os-release && echo "${ID/debian/deb}$VERSION_ID")
# PEP 440's 1.0rc1 is earlier than 1.0, as is Debian's 1.0~rc1; the release, so that an upgrade of the system upgrades the packages.
version=$(sed -E 's/\.?(a|b|rc|dev)([0-9]+)/~\1\2/' <<<"$version")+$release
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH PYTHONHASHSEED=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/builder"
pip="$work/builder/bin/python -m pip --quiet"
$pip install --require-hashes -r "$root/requirements/build.txt"
if [ -n "${WHEEL:-}" ]; then
  mkdir "$work/wheel" && cp "$WHEEL" "$work/wheel"
else
  $pip wheel --no-deps --no-build-isolation --wheel-dir "$work/wheel" "$root"
fi

maintainer=${MAINTAINER:-Veilleuse <veilleuse@example.org>} # example.org: nobody publishes them yet
tree=$work/veilleuse
mkdir "$tree"
cp -r "$root/deploy/debian/debian" "$tree/debian"
sed -i "s|^Maintainer: .*|Maintainer: $maintainer|" "$tree/debian/control"
ln -s "$root" "$tree/source"
cat >"$tree/debian/changelog" <<END
veilleuse ($version) unstable; urgency=medium

  * Version $version of Veilleuse.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END
(
  cd "$tree"
  PIP="$pip" WHEEL=$(echo "$work"/wheel/*.whl) dpkg-buildpackage --build=binary --no-sign --no-check-builddeps >"$work/log" 2>&1
) || {
  cat "$work/log" >&2
  die "the packages were not built: the log is above"
}
mv "$work"/*.deb "$output"
