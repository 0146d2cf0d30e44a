#!/usr/bin/env bash
# Find the programs named as PROGRAM:DEBIAN_PACKAGE, and install what is missing where that is
# possible (as root, or with sudo that asks nothing). What stays missing is named, never fatal:
# a test that needs it fails under CI and is skipped, with the reason, elsewhere.
set -euo pipefail

missing=()
for pair in "$@"; do
  command -v "${pair%%:*}" > /dev/null || missing+=("${pair##*:}")
done
[ ${#missing[@]} = 0 ] && exit 0

export DEBIAN_FRONTEND=noninteractive
root=()
[ "$(id -u)" = 0 ] || root=(sudo -n)
if command -v apt-get > /dev/null; then
  echo "Installing ${missing[*]}" >&2
  "${root[@]}" apt-get update -qq > /dev/null 2>&1 || true
  "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null 2>&1 && exit 0
fi
echo "Not installed: ${missing[*]}. What needs them is skipped, or fails under CI." >&2
