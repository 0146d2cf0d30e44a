#!/usr/bin/env bash
# Make the virtual environment $1 with Python 3.11 (or a newer one), whatever the machine lacks.
#
# Debian splits ensurepip off into python3-venv, so plain `python3 -m venv` may fail there. Tried in
# order: venv; venv with the machine's own pip; virtualenv; installing python3-venv as root.
set -euo pipefail

target=${1:?usage: tools/venv.sh FOLDER}
[ -x "$target/bin/pip" ] && exit 0

find_python() {
  for name in "${PYTHON:-}" python3.11 python3 python3.12 python3.13; do
    [ -n "$name" ] && command -v "$name" > /dev/null || continue
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || continue
    command -v "$name"
    return
  done
  echo "Keepstone needs Python 3.11 or newer: install python3, or name one with PYTHON=." >&2
  exit 3
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

python=$(find_python)
echo "Making $target with $python" >&2

if "$python" -c 'import ensurepip, venv' 2> /dev/null && "$python" -m venv "$target"; then
  exit 0
fi
rm -rf "$target"
if "$python" -m venv --without-pip "$target" 2> /dev/null \
  && "$python" -m pip --python "$target/bin/python" install --quiet pip 2> /dev/null; then
  exit 0
fi
rm -rf "$target"
if "$python" -m virtualenv --quiet "$target" 2> /dev/null; then
  exit 0
fi
rm -rf "$target"
if command -v apt-get > /dev/null; then
  echo "This Python cannot make environments: installing python3-venv." >&2
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update -qq || true
  if as_root apt-get install -y -qq --no-install-recommends python3-venv >&2; then
    # What was just installed belongs to the system's own Python.
    [ -x /usr/bin/python3 ] && python=/usr/bin/python3
    "$python" -m venv "$target" && exit 0
  fi
fi
echo "Cannot make a virtual environment: install python3-venv, then run this again." >&2
exit 3
