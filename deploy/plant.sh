#!/usr/bin/env bash
# Puts recorder, dashboard and notices on a server of the plant: any Debian or Ubuntu with Python
# 3.10 and systemd. Run it as often as you like; again after an update, it upgrades.
set -euo pipefail
# What is installed is for the services' users to read, whatever root's own umask says. Secrets get
# their modes one by one.
umask 022

usage() {
  cat <<'TEXT'
usage: sudo deploy/plant.sh [--offline] [--python PROGRAM]
       sudo deploy/plant.sh --uninstall [--purge]

Installs or upgrades edge-qc-record.service, edge-qc-dashboard.service and edge-qc-notify.service.
What they are called with is in /etc/edge-qc-plant, what was recorded in /var/lib/edge-qc-record.
Those that run are started anew, and where one does not get ready the version before comes back; the others wait for a
person who enables them.

  --offline          take every package from the folder wheels beside this script
                     (make wheelhouse WITH=--plant packs such a folder)
  --python PROGRAM   another Python than /usr/bin/python3
  --uninstall        remove all three; what was recorded and the settings stay
  --purge            with --uninstall: remove those as well, and the user

Exit status: 0 done, 1 failed, 2 wrong use.
TEXT
}

readonly OPT=/opt/edge-qc-plant ETC=/etc/edge-qc-plant STATE=/var/lib/edge-qc-record
readonly LIB=/usr/local/lib
readonly UNITS="edge-qc-record.service edge-qc-dashboard.service edge-qc-notify.service"
HERE=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
readonly HERE

say() { printf 'edge-qc plant: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}

action=install offline=no purge=no python=/usr/bin/python3
while [ $# -gt 0 ]; do
  case $1 in
    --offline) offline=yes ;;
    --uninstall) action=uninstall ;;
    --purge) purge=yes ;;
    --python)
      [ $# -ge 2 ] || { say "$1 wants a value" && exit 2; }
      python=$2
      shift
      ;;
    -h | --help) usage && exit 0 ;;
    *) say "unknown option $1" && usage >&2 && exit 2 ;;
  esac
  shift
done
[ $purge = no ] || [ $action = uninstall ] || { say "--purge goes with --uninstall" && exit 2; }
[ "$(id -u)" = 0 ] || die "needs root: sudo $0"

exec 9>/run/lock/edge-qc-plant
flock -n 9 || die "another plant.sh is running"

has_systemd() { [ -d /run/systemd/system ]; }

preflight() {
  command -v systemd-sysusers >/dev/null || die "needs systemd: apt install systemd"
  [ -x "$python" ] || die "$python is missing: apt install python3, or name another by --python"
  "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
    die "$python is not 3.10 or newer with venv: apt install python3-venv, or name another by --python"
  if [ $offline = yes ] && ! compgen -G "$HERE/wheels/edge_qc-*.whl" >/dev/null; then
    die "--offline wants $HERE/wheels with edge-qc's wheel in it: make wheelhouse WITH=--plant packs one"
  fi
}

wheel() { # into the folder $1 where there is none yet
  if compgen -G "$HERE/wheels/edge_qc-*.whl" >/dev/null; then
    compgen -G "$HERE/wheels/edge_qc-*.whl" | tail -1
    return
  fi
  [ -e "$HERE/../pyproject.toml" ] || die "neither $HERE/wheels nor a checkout is beside this script"
  "$python" -m venv "$1/build"
  "$1/build/bin/python" -m pip --quiet wheel --no-deps --wheel-dir "$1" "$HERE/.."
  compgen -G "$1/edge_qc-*.whl"
}

install_plant() {
  preflight
  local scratch built lock=$HERE/constraints/plant.txt units=$HERE/../systemd/plant id venv
  [ ! -d "$HERE/systemd/plant" ] || units=$HERE/systemd/plant
  scratch=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$scratch'" EXIT
  built=$(wheel "$scratch")
  id=$(basename "$built" | cut -d- -f2)-$(
    { cat "$built" "$lock" && "$python" --version && cat "$units"/*; } | sha256sum | cut -c1-8
  )
  venv=$OPT/versions/$id
  local before
  before=$(basename "$(readlink "$OPT/current" 2>/dev/null || true)")
  if [ ! -e "$venv/.complete" ]; then
    say "installing $id into $venv"
    rm -rf "$venv"
    install -d "$OPT/versions"
    "$python" -m venv "$venv"
    local pip=("$venv/bin/python" -m pip --quiet --disable-pip-version-check --no-input install)
    [ $offline = no ] || pip+=(--no-index --find-links "$HERE/wheels")
    "${pip[@]}" --no-deps --require-hashes -r "$lock"
    "${pip[@]}" --no-deps "$built"
    "$venv/bin/python" -c 'import edge_qc.plant.dashboard.server, edge_qc.plant.recorder, apprise, starlette, uvicorn' ||
      die "$venv does not import its own packages; everything is as it was"
    cp -r "$units" "$venv/units"
    touch "$venv/.complete"
  fi
  local ran=()
  if has_systemd; then mapfile -t ran < <(active_units); fi
  point "$id"
  if [ ${#ran[@]} -gt 0 ] && ! systemctl restart "${ran[@]}"; then
    if [ -z "$before" ] || [ "$before" = "$id" ]; then
      die "it did not come back: journalctl -u 'edge-qc-*' -e"
    fi
    point "$before"
    rm -rf "$venv"
    systemctl restart "${ran[@]}" || die "neither $id nor $before: journalctl -u 'edge-qc-*' -e"
    die "$id did not get ready (journalctl -u 'edge-qc-*' -e); $before is back and runs"
  fi
  local folder
  for folder in "$OPT"/versions/*; do
    [ "$folder" = "$venv" ] || rm -rf "$folder"
  done
  if [ "$before" = "$id" ]; then say "$id was installed already"; else say "$id is installed"; fi
  if has_systemd && [ ${#ran[@]} = 0 ]; then
    cat >&2 <<TEXT
Next:
  1. fill in $ETC/record.conf and $ETC/dashboard.conf; secrets go into $ETC/credentials
  2. sudo systemctl enable --now edge-qc-record edge-qc-dashboard
  3. for notices: $ETC/notify.conf, $ETC/credentials/targets, and edge-qc-notify as well
TEXT
  fi
}

active_units() { # those that run or want to, one a line
  local unit
  for unit in $UNITS; do
    case $(systemctl is-active "$unit" || true) in
      active | activating | reloading) echo "$unit" ;;
    esac
  done
}

point() { # VERSION becomes the one that runs, with its own units
  ln -sfn "versions/$1" "$OPT/.current.new"
  mv -T "$OPT/.current.new" "$OPT/current"
  lay_down "$OPT/current/units"
}

lay_down() { # UNITS
  install -d "$LIB/systemd/system" "$LIB/sysusers.d" "$LIB/tmpfiles.d"
  install -m 644 "$1"/*.service "$LIB/systemd/system/"
  install -m 644 "$1/edge-qc-plant.sysusers.conf" "$LIB/sysusers.d/edge-qc-plant.conf"
  install -m 644 "$1/edge-qc-plant.tmpfiles.conf" "$LIB/tmpfiles.d/edge-qc-plant.conf"
  systemd-sysusers "$LIB/sysusers.d/edge-qc-plant.conf"
  systemd-tmpfiles --create "$LIB/tmpfiles.d/edge-qc-plant.conf"
  local name
  for name in record.conf dashboard.conf notify.conf; do
    [ -e "$ETC/$name" ] || install -m 644 "$1/$name" "$ETC/"
  done
  if has_systemd; then systemctl daemon-reload; fi
}

uninstall() {
  local name
  for name in $UNITS; do
    if has_systemd; then systemctl --quiet disable --now "$name" 2>/dev/null || true; fi
    rm -f "$LIB/systemd/system/$name"
  done
  rm -f "$LIB/sysusers.d/edge-qc-plant.conf" "$LIB/tmpfiles.d/edge-qc-plant.conf"
  rm -rf "$OPT"
  if [ $purge = yes ]; then
    rm -rf "$ETC" "$STATE" /var/lib/private/edge-qc-notify /var/lib/edge-qc-notify
    if id edge-qc-record >/dev/null 2>&1; then userdel edge-qc-record; fi
    say "removed, with settings and everything that was recorded"
  else
    say "removed; $ETC and $STATE stay (--purge removes them)"
  fi
  if has_systemd; then systemctl daemon-reload; fi
}

case $action in
  install) install_plant ;;
  uninstall) uninstall ;;
esac
