# shellcheck shell=bash
# Shared by the scripts: where things are, and how to set up what is missing. Sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
VENVS=$ROOT/.venv
QGIS_PYTHON=/usr/bin/python3
export LC_ALL=C.UTF-8 PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV

say() { printf '%s\n' "== $*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# apt_packages NAME...: install those Debian packages that are missing.
apt_packages() {
  local missing=() name sudo=()
  for name in "$@"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  command -v apt-get >/dev/null || die "This script sets up Debian and Ubuntu. Elsewhere, install: ${missing[*]}"
  if [[ $EUID -ne 0 ]]; then
    sudo -n true 2>/dev/null || die "Missing packages. Run this first: sudo apt-get install --no-install-recommends ${missing[*]}"
    sudo=(sudo)
  fi
  say "installing ${missing[*]}"
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# engine_base: a CPython that the engine can run on (3.11 to 3.13) and that can make virtual environments.
engine_base() {
  local candidate
  for candidate in "$QGIS_PYTHON" python3.13 python3.12 python3.11 python3; do
    if "$candidate" -I -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  die "The engine needs CPython 3.11 to 3.13 with its venv module, and none was found. Debian 12 and Ubuntu 24.04 have one; elsewhere, install python3.11 and python3.11-venv."
}

# venv NAME BASE_PYTHON REQUIREMENTS_FILE... [-- VENV_OPTION...]: make or renew .venv/NAME; quick when nothing changed.
venv() {
  local name=$1 base=$2 files=() options=() pip_files=() file stamp want started=$SECONDS
  shift 2
  while [[ $# -gt 0 && $1 != -- ]]; do files+=("$1"); shift; done
  [[ $# -eq 0 ]] || { shift; options=("$@"); }
  for file in "${files[@]}"; do pip_files+=(-r "$file"); done
  stamp=$VENVS/$name/.stamp
  # The folder is part of the key: a virtual environment that was moved no longer works.
  want=$({ "$base" -VV; echo "$VENVS/$name ${options[*]-}"; cat "${files[@]}" "$ROOT"/tests/requirements.txt; } | sha256sum)
  [[ -f $stamp && $(<"$stamp") == "$want" ]] && return
  say "setting up .venv/$name"
  rm -rf "${VENVS:?}/$name"
  mkdir -p "$VENVS"
  "$base" -m venv "${options[@]}" "$VENVS/$name"
  "$VENVS/$name/bin/python" -m pip install -qq "${pip_files[@]}"
  printf '%s' "$want" >"$stamp"
  say ".venv/$name is ready ($((SECONDS - started)) s, $(du -sm "$VENVS/$name" | cut -f1) MB)"
}

setup_qgis() { apt_packages qgis python3-qgis python3-venv fonts-dejavu-core fonts-open-sans "$@"; }
setup_engine() {
  [[ -x $QGIS_PYTHON ]] && "$QGIS_PYTHON" -c 'import ensurepip' 2>/dev/null || apt_packages python3 python3-venv
  local base
  base=$(engine_base)
  venv engine "$base" "$ROOT/engine/requirements.txt" "$ROOT/tests/requirements-engine.txt"
}
setup_qgis_tests() {
  setup_qgis
  venv qgis "$QGIS_PYTHON" "$ROOT/tests/requirements-qgis.txt" -- --system-site-packages
}
setup_tools() {
  local base
  base=$(engine_base)
  venv tools "$base" "$ROOT/scripts/requirements.txt"
}
