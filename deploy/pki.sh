#!/usr/bin/env bash
# A small certificate authority for trials and small plants, of openssl. A plant that has an
# authority of its own uses that: what counts is that a station's common name is <site>/<station>.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: deploy/pki.sh init FOLDER [NAME]             an authority; its key stays in FOLDER/ca.key
       deploy/pki.sh broker FOLDER HOST…            broker.pem for these host names and addresses
       deploy/pki.sh station FOLDER SITE/STATION    a station's certificate
       deploy/pki.sh client FOLDER NAME             recorder, controller, operator, dashboard, bridge
       deploy/pki.sh revoke FOLDER NAME             from now on refused, once the broker has ca.crl
       deploy/pki.sh show FOLDER                    every certificate, until when, and what was revoked

DAYS=… sets how long a certificate lasts (825; an authority and its revocations 3650).
A station's files are <site>_<station>.pem and .key; the key goes to
/etc/edge-qc/credentials/mqtt.key on the station, and nowhere else.
TEXT
}

die() {
  printf 'pki: %s\n' "$1" >&2
  exit "${2:-1}"
}

[ $# -ge 1 ] || { usage >&2 && exit 2; }
case $1 in -h | --help) usage && exit 0 ;; esac
[ $# -ge 2 ] || { usage >&2 && exit 2; }
action=$1 folder=$2
shift 2
umask 077
days=${DAYS:-825}

# openssl's own account of what it signed, which revoking needs.
configure() {
  cat >"$folder/ca.cnf" <<TEXT
[ca]
default_ca = edge_qc
[edge_qc]
dir = $folder
database = $folder/index.txt
crlnumber = $folder/crlnumber
certificate = $folder/ca.pem
private_key = $folder/ca.key
new_certs_dir = $folder/issued
rand_serial = yes
default_md = sha256
default_crl_days = 3650
policy = policy
unique_subject = no
copy_extensions = none
[policy]
commonName = supplied
[req]
distinguished_name = name
prompt = no
[name]
CN = \$ENV::PKI_NAME
[authority]
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = \$ENV::PKI_NAMES
[client]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
TEXT
}

quietly() {
  local said
  said=$("$@" 2>&1) || die "$1 $2: $said"
}

# The authority's own files and the broker's lie under these names.
unreserved() { # NAME RESERVED…
  local name=$1 taken
  shift
  for taken in "$@"; do
    [ "$name" != "$taken" ] || die "$name is the name of $folder/$taken.pem, take another" 2
  done
}

key() { quietly openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

crl() { quietly openssl ca -batch -config "$folder/ca.cnf" -gencrl -out "$folder/ca.crl"; }

issue() { # FILE SECTION: a certificate for PKI_NAME
  [ -e "$folder/ca.key" ] || die "$folder has no authority: $0 init $folder"
  [ ! -e "$folder/$1.pem" ] || die "$folder/$1.pem exists: revoke it, or move it away"
  configure
  key "$folder/$1.key"
  quietly openssl req -new -config "$folder/ca.cnf" -key "$folder/$1.key" -out "$folder/$1.csr"
  quietly openssl ca -batch -notext -config "$folder/ca.cnf" -extensions "$2" -days "$days" \
    -in "$folder/$1.csr" -out "$folder/$1.pem"
  rm "$folder/$1.csr"
  chmod 644 "$folder/$1.pem"
  printf '%s\n' "$folder/$1.pem" "$folder/$1.key"
}

export PKI_NAMES=DNS:unused PKI_NAME=unused
case $action in
  init)
    [ ! -e "$folder/ca.key" ] || die "$folder has an authority already; it is not replaced"
    mkdir -p "$folder/issued"
    folder=$(readlink -f "$folder")
    : >"$folder/index.txt"
    echo 01 >"$folder/crlnumber"
    configure
    key "$folder/ca.key"
    PKI_NAME=${1:-edge-qc trial authority} quietly openssl req -x509 -new -config "$folder/ca.cnf" \
      -extensions authority -key "$folder/ca.key" -days 3650 -out "$folder/ca.pem"
    crl
    chmod 644 "$folder/ca.pem" "$folder/ca.crl"
    printf '%s\n' "$folder/ca.pem" "$folder/ca.crl"
    ;;
  broker)
    [ $# -ge 1 ] || { usage >&2 && exit 2; }
    names=()
    for host in "$@"; do
      if [[ $host =~ ^[0-9.]+$ || $host == *:* ]]; then names+=("IP:$host"); else names+=("DNS:$host"); fi
    done
    folder=$(readlink -f "$folder")
    export PKI_NAME=$1
    PKI_NAMES=$(IFS=, && printf '%s' "${names[*]}") issue broker server
    ;;
  station)
    [[ ${1:-} =~ ^[A-Za-z0-9._-]{1,64}/[A-Za-z0-9._-]{1,64}$ ]] ||
      die "a station is named SITE/STATION as in station.toml, got '${1:-}'" 2
    [ ${#1} -le 64 ] || die "$1: a common name has at most 64 characters, this has ${#1}" 2
    folder=$(readlink -f "$folder")
    export PKI_NAME=$1
    issue "${1/\//_}" client
    ;;
  client)
    [[ ${1:-} =~ ^[A-Za-z0-9._-]{1,64}$ ]] || die "a client's name has no slash, got '${1:-}'" 2
    unreserved "$1" ca broker
    folder=$(readlink -f "$folder")
    export PKI_NAME=$1
    issue "$1" client
    ;;
  revoke)
    [ -n "${1:-}" ] || die "revoke wants the name of a station (SITE/STATION), a client, or broker" 2
    # Without its key nothing could be issued or revoked any more.
    [ "$1" != ca ] || die "the authority does not revoke itself: for another one, take another folder" 2
    folder=$(readlink -f "$folder")
    file=$folder/${1/\//_}
    [ -e "$file.pem" ] || die "$file.pem is not there"
    quietly openssl ca -batch -config "$folder/ca.cnf" -revoke "$file.pem"
    crl
    chmod 644 "$folder/ca.crl"
    mv "$file.pem" "$file.revoked-$(date +%s).pem"
    rm -f "$file.key"
    echo "$folder/ca.crl"
    ;;
  show)
    for file in "$folder"/*.pem; do
      printf '%-40s %s\n' "$(basename "$file")" \
        "$(openssl x509 -in "$file" -noout -subject -enddate | tr '\n' ' ')"
    done
    openssl crl -in "$folder/ca.crl" -noout -text | grep -E 'Serial Number|No Revoked' || true
    ;;
  *) usage >&2 && exit 2 ;;
esac
