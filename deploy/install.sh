#!/usr/bin/env bash
# Puts an edge-qc station on this machine: a Jetson (JetPack 6.1 or newer) or any Debian or Ubuntu
# with Python 3.10 and systemd. Run it as often as you like.
set -euo pipefail
# What is installed is for the station's user to read, whatever root's own umask says. Secrets get
# their modes one by one.
umask 022

usage() {
  cat <<'TEXT'
usage: sudo deploy/install.sh [--offline] [--now] [--opencv pip|system] [--python PROGRAM]
       sudo deploy/install.sh --rollback
       sudo deploy/install.sh --uninstall [--purge]

Installs or upgrades the station: a virtual environment of the system's Python in
/opt/edge-qc/versions, the user edge-qc, /etc/edge-qc, /var/lib/edge-qc and the unit
edge-qc.service. The version before stays for --rollback, and comes back by itself where a
running station does not get ready on the new one.

What station.toml names of controllers and pins (modbus://, opcua://, gpio:) is installed as well:
run this again after you have named the first.

  --offline          take every package from the folder wheels beside this script
                     (make wheelhouse packs such a folder)
  --now              start the station at the end; else a first installation waits for
                     a person who fills in /etc/edge-qc/station.toml
  --opencv system    use apt's OpenCV, which has GStreamer (gst: cameras), and numpy 1
                     with it; by itself on a Jetson that has it
  --opencv pip       use the one from the package index
  --python PROGRAM   another system Python than /usr/bin/python3
  --rollback         back to the version before; its unit comes back too
  --uninstall        remove the station; what it recorded and its settings stay
  --purge            with --uninstall: remove those as well, and the user

Exit status: 0 done, 1 failed (a station that was there is as it was before), 2 wrong use.
TEXT
}

readonly OPT=/opt/edge-qc ETC=/etc/edge-qc STATE=/var/lib/edge-qc CACHE=/var/cache/edge-qc
readonly LIB=/usr/local/lib COMMAND=/usr/local/bin/edge-qc UNIT=edge-qc.service
readonly DROPINS=/etc/systemd/system/$UNIT.d
HERE=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
readonly HERE

say() { printf 'edge-qc install: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}

action=install offline=no now=no purge=no opencv=auto python=/usr/bin/python3
while [ $# -gt 0 ]; do
  case $1 in
    --offline) offline=yes ;;
    --now) now=yes ;;
    --rollback) action=rollback ;;
    --uninstall) action=uninstall ;;
    --purge) purge=yes ;;
    --opencv | --python)
      [ $# -ge 2 ] || { say "$1 wants a value" && exit 2; }
      if [ "$1" = --opencv ]; then opencv=$2; else python=$2; fi
      shift
      ;;
    -h | --help) usage && exit 0 ;;
    *) say "unknown option $1" && usage >&2 && exit 2 ;;
  esac
  shift
done
case $opencv in auto | pip | system) ;; *) say "--opencv wants pip or system, got $opencv" && exit 2 ;; esac
[ $purge = no ] || [ $action = uninstall ] || { say "--purge goes with --uninstall" && exit 2; }
[ "$(id -u)" = 0 ] || die "needs root: sudo $0"

exec 9>/run/lock/edge-qc-install
flock -n 9 || die "another install.sh is running"

has_systemd() { [ -d /run/systemd/system ]; }
running() { has_systemd && systemctl is-active --quiet $UNIT; }

# --- the versions ---------------------------------------------------------------------------------

version_of() { basename "$(readlink "$OPT/$1" 2>/dev/null || true)"; }

point() { # NAME VERSION: a link that is never missing, not even for a moment
  ln -sfn "versions/$2" "$OPT/.$1.new"
  mv -T "$OPT/.$1.new" "$OPT/$1"
}

# Units, user, folders and camera names of the version that is current, and its command.
lay_down() {
  local from=$OPT/current/share/edge-qc/systemd
  install -d "$LIB/systemd/system" "$LIB/sysusers.d" "$LIB/tmpfiles.d" "$LIB/udev/rules.d" \
    "$DROPINS" "$(dirname "$COMMAND")"
  install -m 644 "$from"/*.service "$LIB/systemd/system/"
  install -m 644 "$from/edge-qc.sysusers.conf" "$LIB/sysusers.d/edge-qc.conf"
  install -m 644 "$from/edge-qc.tmpfiles.conf" "$LIB/tmpfiles.d/edge-qc.conf"
  install -m 644 "$from/70-edge-qc-cameras.rules" "$LIB/udev/rules.d/"
  local gpu
  gpu=$(gpu_kind)
  [ -z "$gpu" ] || install -m 644 "$from/dropins/$gpu.conf" "$DROPINS/gpu.conf"
  [ -e "$DROPINS/network.conf" ] || install -m 644 "$from/dropins/network.conf" "$DROPINS/"
  systemd-sysusers "$LIB/sysusers.d/edge-qc.conf"
  install -d -m 750 -g edge-qc "$ETC"
  if [ ! -e "$ETC/station.toml" ]; then
    install -m 640 -g edge-qc "$OPT/current/share/edge-qc/station.example.toml" "$ETC/station.toml"
  fi
  systemd-tmpfiles --create "$LIB/tmpfiles.d/edge-qc.conf"
  ln -sfn "$OPT/current/bin/edge-qc" "$COMMAND"
  if has_systemd; then
    systemctl daemon-reload
    systemctl --quiet enable $UNIT
    udevadm control --reload 2>/dev/null || true
  fi
}

gpu_kind() {
  if [ -e /etc/nv_tegra_release ]; then
    echo jetson
  elif [ -e /dev/nvidiactl ]; then
    echo nvidia
  fi
}

get_ready() {
  say "starting $UNIT, which gets ready once its engine is accepted"
  if ! systemctl restart $UNIT; then
    systemctl --no-pager --lines 15 status $UNIT >&2 || true
    die "$UNIT did not get ready: journalctl -u $UNIT -e"
  fi
  say "$UNIT is ready"
}

# --- a change of version, and every way out of it --------------------------------------------------

scratch='' unproven=no ran=no was_current='' was_previous=''

# A running station starts on the new version before the older ones go: until that is proven, leave()
# takes everything back, also where a person or a full disk ends it in between.
change() { # CURRENT PREVIOUS
  was_current=$(version_of current) was_previous=$(version_of previous)
  if running; then ran=yes; fi
  [ -z "$was_current" ] || unproven=yes
  [ -z "$2" ] || point previous "$2"
  point current "$1"
  lay_down
  if [ $ran = yes ] || { [ $now = yes ] && has_systemd; }; then get_ready; fi
  unproven=no
}

leave() {
  [ -z "$scratch" ] || rm -rf "$scratch"
  [ $unproven = yes ] || return 0
  unproven=no
  local refused
  refused=$(version_of current)
  if [ -n "$was_previous" ]; then point previous "$was_previous"; else rm -f "$OPT/previous"; fi
  point current "$was_current"
  lay_down
  prune
  if [ $ran = yes ]; then
    systemctl restart $UNIT || die "neither $refused nor $was_current gets ready: journalctl -u $UNIT -e"
  elif [ $now = yes ] && has_systemd; then
    systemctl stop $UNIT # else systemd would go on trying
  fi
  say "$refused is not taken: $was_current is back$([ $ran = no ] || echo " and runs")"
}
trap leave EXIT

# --- install --------------------------------------------------------------------------------------

preflight() {
  command -v systemd-sysusers >/dev/null || die "needs systemd: apt install systemd"
  [ -x "$python" ] || die "$python is missing: apt install python3, or name another by --python"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    die "$python is $("$python" --version), 3.10 or newer is wanted (JetPack 6.1 has it)"
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    die "$python makes no virtual environments: apt install python3-venv"
  install -d "$OPT/versions"
  local free
  free=$(df --output=avail -m "$OPT" | tail -1)
  [ "$free" -gt 700 ] || die "$OPT has $free MB free, 700 MB are wanted"
  if [ $offline = yes ] && ! compgen -G "$HERE/wheels/edge_qc-*.whl" >/dev/null; then
    die "--offline wants $HERE/wheels with the station's wheel in it: make wheelhouse packs one"
  fi
}

choose_opencv() {
  [ "$opencv" = auto ] || return 0
  opencv=pip
  if [ "$(gpu_kind)" = jetson ] &&
    "$python" -c 'import cv2, sys; sys.exit("GStreamer:                   YES" not in cv2.getBuildInformation())' 2>/dev/null; then
    opencv=system
  fi
}

# The lock file of this station. apt's OpenCV and JetPack 6's modules were built for numpy 1.
lock_file() {
  if [ "$opencv" = system ] ||
    { [ "$(gpu_kind)" = jetson ] && "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 11))'; }; then
    echo "$HERE/constraints/station-numpy1.txt"
  else
    echo "$HERE/constraints/station.txt"
  fi
}

# The lock without the entry that apt provides.
without_opencv() { awk '/^[A-Za-z0-9]/ { kept = !/^opencv-python-headless/ } kept' "$1"; }

pip_of() { # VENV ARGUMENTS…
  local venv=$1
  shift
  local where=()
  [ $offline = no ] || where=(--no-index --find-links "$HERE/wheels")
  if [ -d "$CACHE/wheels" ]; then where+=(--find-links "$CACHE/wheels"); fi
  "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@" "${where[@]}"
}

# The engine's way to CUDA, where TensorRT is: pycuda, built once, since it takes minutes; NVIDIA's
# cuda-bindings, a wheel, where there is no compiler.
pycuda() { # VENV
  [ -n "$(gpu_kind)" ] || return 0
  local found get="$1/bin/python -m pip install tensorrt"
  if [ "$(gpu_kind)" = jetson ]; then get="apt install python3-libnvinfer, JetPack's own"; fi
  if ! found=$("$1/bin/python" -c 'import tensorrt as t; print(t.__version__, "of", t.__file__)' 2>/dev/null); then
    say "no TensorRT is seen, so the engine is ONNX Runtime on the CPU until then: $get, then run this again"
    return 0
  fi
  # pip's does not serve a Jetson.
  say "TensorRT $found is used; none is fetched"
  if "$1/bin/python" -c 'import pycuda' 2>/dev/null; then return 0; fi
  local wheels=$CACHE/wheels lock=$HERE/constraints/pycuda.txt
  if ! compgen -G "$wheels/pycuda-*.whl" >/dev/null; then
    if compgen -G "$HERE/wheels/pycuda-*.whl" >/dev/null; then
      install -D -m 644 -t "$wheels" "$HERE"/wheels/*.whl
    elif compgen -G "$HERE/wheels/cuda_bindings-*.whl" >/dev/null ||
      { [ $offline = no ] && ! PATH=/usr/local/cuda/bin:$PATH type -P nvcc g++ >/dev/null; }; then
      say "cuda-bindings is taken in pycuda's place: to build that, nvcc and g++ are wanted"
      pip_of "$1" install --quiet --no-deps --require-hashes -r "$HERE/constraints/cuda-bindings.txt"
      return
    elif [ $offline = yes ]; then
      die "no pycuda in $HERE/wheels: install one station with a network, and copy its $wheels here"
    else
      say "building pycuda for this GPU, once: minutes. Its wheels stay in $wheels"
      PATH=/usr/local/cuda/bin:$PATH pip_of "$1" wheel --quiet --no-deps --require-hashes \
        --wheel-dir "$wheels" -r "$lock"
    fi
  fi
  # What was built here has no hash in the lock: names and versions alone.
  sed -n 's/^\([A-Za-z0-9].*[^ ]\) *\\$/\1/p' "$lock" >"$1/pycuda.txt"
  pip_of "$1" install --quiet --no-deps --no-index --find-links "$wheels" -r "$1/pycuda.txt"
}

outputs() { # into VENV, what the outputs and pins of station.toml need
  [ -e "$ETC/station.toml" ] || return 0
  sed 's/#.*//' "$ETC/station.toml" | grep -qE "[\"'](modbus://|opcua://|gpio:)" || return 0
  if "$1/bin/python" -c 'import asyncua, gpiod.line, pymodbus' 2>/dev/null; then return 0; fi
  say "installing what station.toml's outputs and pins need"
  pip_of "$1" install --quiet --ignore-installed --no-deps --require-hashes \
    -r "$HERE/constraints/outputs.txt"
}

build_version() { # ID WHEEL LOCK
  local venv=$OPT/versions/$1
  if [ -e "$venv/.complete" ]; then
    pycuda "$venv" # TensorRT may have come since, and an output been named
    outputs "$venv"
    return
  fi
  rm -rf "$venv"
  say "installing $1 into $venv"
  "$python" -m venv --system-site-packages "$venv"
  local lock=$venv/requirements.txt
  if [ "$opencv" = system ]; then without_opencv "$3" >"$lock"; else cp "$3" "$lock"; fi
  # --ignore-installed: an upgrade by apt must not change what the station runs on.
  pip_of "$venv" install --quiet --ignore-installed --no-deps --require-hashes -r "$lock"
  pip_of "$venv" install --quiet --no-deps "$2"
  pycuda "$venv"
  outputs "$venv"
  install -d "$venv/share/edge-qc"
  cp -r "$(systemd_folder)" "$HERE/station.example.toml" "$HERE/install.sh" "$venv/share/edge-qc/"
  "$venv/bin/python" -c 'import cv2, numpy, onnxruntime, edge_qc' ||
    die "$venv does not import its own packages; the station is as it was"
  "$venv/bin/edge-qc" --version >/dev/null
  touch "$venv/.complete"
}

systemd_folder() {
  if [ -d "$HERE/systemd" ]; then echo "$HERE/systemd"; else echo "$HERE/../systemd"; fi
}

station_wheel() { # into the folder $1 where there is none yet
  if compgen -G "$HERE/wheels/edge_qc-*.whl" >/dev/null; then
    compgen -G "$HERE/wheels/edge_qc-*.whl" | tail -1
    return
  fi
  [ -e "$HERE/../pyproject.toml" ] || die "neither $HERE/wheels nor a checkout is beside this script"
  "$python" -m venv "$1/build"
  "$1/build/bin/python" -m pip --quiet wheel --no-deps --wheel-dir "$1" "$HERE/.."
  compgen -G "$1/edge_qc-*.whl"
}

install_station() {
  preflight
  choose_opencv
  local wheel lock id
  scratch=$(mktemp -d)
  wheel=$(station_wheel "$scratch")
  lock=$(lock_file)
  id=$(basename "$wheel" | cut -d- -f2)-$(
    { cat "$wheel" "$lock" && "$python" --version && echo "$opencv" &&
      find "$(systemd_folder)" -type f -print0 | sort -z | xargs -0 cat; } | sha256sum | cut -c1-8
  )
  build_version "$id" "$wheel" "$lock"
  if [ "$(version_of current)" = "$id" ]; then
    lay_down
    say "$id was installed already"
    if [ $now = yes ] && has_systemd && ! running; then get_ready; fi
  else
    change "$id" "$(version_of current)"
  fi
  prune
  report
}

prune() { # all but the current and the previous one
  local folder
  for folder in "$OPT"/versions/*; do
    case $(basename "$folder") in
      "$(version_of current)" | "$(version_of previous)") ;;
      *) rm -rf "$folder" ;;
    esac
  done
}

report() {
  say "$(version_of current) is installed$([ -z "$(version_of previous)" ] || echo ", $(version_of previous) stays for --rollback")"
  say "asking edge-qc doctor:"
  "$COMMAND" doctor >&2 || say "doctor sees something red, see above"
  if ! running; then
    cat >&2 <<TEXT
Next:
  1. fill in $ETC/station.toml; the broker's password goes into $ETC/credentials/mqtt.password
  2. sudo -u edge-qc edge-qc install BUNDLE
  3. sudo edge-qc check
  4. sudo systemctl start edge-qc
TEXT
  fi
}

# --- rollback, uninstall --------------------------------------------------------------------------

rollback() {
  local current previous
  current=$(version_of current) previous=$(version_of previous)
  [ -n "$previous" ] || die "there is no version before ${current:-this one}"
  change "$previous" "$current"
  say "$previous is current, $current stays for --rollback"
}

uninstall() {
  if has_systemd; then
    systemctl --quiet disable --now $UNIT 2>/dev/null || true
  fi
  # By its name: a plant's server has units of its own there.
  rm -f "$LIB/systemd/system/$UNIT" "$LIB/sysusers.d/edge-qc.conf" \
    "$LIB/tmpfiles.d/edge-qc.conf" "$LIB/udev/rules.d/70-edge-qc-cameras.rules" "$COMMAND"
  rm -rf "$OPT" "$CACHE"
  if [ $purge = yes ]; then
    rm -rf "$DROPINS" "$ETC" "$STATE"
    if id edge-qc >/dev/null 2>&1; then userdel edge-qc; fi
    say "removed, with settings and everything that was recorded"
  else
    say "removed; $ETC, $DROPINS and $STATE stay (--purge removes them)"
  fi
  if has_systemd; then systemctl daemon-reload; fi
}

case $action in
  install) install_station ;;
  rollback) rollback ;;
  uninstall) uninstall ;;
esac
