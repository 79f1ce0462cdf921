# Shared by the scripts of this folder: where things are, how programs are started and ended.
# shellcheck shell=bash

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/azure-iot-hub-connector
run=${CLUSTER_DIR:-/var/lib/azure-iot-hub-connector-cluster}
version=v1.36.3

# Addresses: the bridge is made before anything runs, so that pods reach the API server there.
bridge=cni0
host_ip=10.88.0.1
pod_cidr=10.88.0.0/16
service_cidr=10.96.0.0/16
api_ip=10.96.0.1
dns_ip=10.96.0.10
api_port=6443

export KUBECONFIG=$run/admin.kubeconfig

# What defines the programs: their module and the flags they are built with.
ldflags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  ldflags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=36"
done
# Without C libraries: CoreDNS runs in an image that has none.
export CGO_ENABLED=0
digest=$(cat "$here/go.mod" "$here/go.sum" <(printf %s "$ldflags $CGO_ENABLED") | sha256sum | cut -c1-16)
bin=$cache/cluster-$digest/bin
PATH=$bin:$PATH:/usr/sbin:/sbin

say() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$*"; }
die() { printf 'cluster: %s\n' "$*" >&2; exit 1; }

# A process is ours if it has the pid and the start time that were written down.
started() { awk '{print $22}' "/proc/$1/stat" 2>/dev/null || true; }

alive() {
  local file=$run/pids/$1 pid at
  [ -f "$file" ] || return 1
  read -r pid at <"$file"
  [ -n "$at" ] && [ "$(started "$pid")" = "$at" ]
}

launch() { # NAME COMMAND…: in the background, with a log of its own
  local name=$1
  shift
  setsid "$@" >"$run/log/$name.log" 2>&1 </dev/null &
  printf '%s %s\n' $! "$(started $!)" >"$run/pids/$name"
}

finish() { # NAME [SECONDS]: asks it to end, then ends it
  local name=$1 pid at
  alive "$name" || return 0
  read -r pid at <"$run/pids/$name"
  kill -TERM "$pid" 2>/dev/null || true
  for _ in $(seq $((${2:-3} * 10))); do
    alive "$name" || return 0
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null || true
}

wait_for() { # SECONDS WHAT PROGRAM COMMAND…: until it succeeds; shows the program's last words if not
  local seconds=$1 what=$2 program=$3
  shift 3
  local until=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    if [ -n "$program" ] && ! alive "$program"; then
      tail -n 20 "$run/log/$program.log" >&2
      die "$program has ended; its log: $run/log/$program.log"
    fi
    if [ "$SECONDS" -ge "$until" ]; then
      [ -z "$program" ] || tail -n 20 "$run/log/$program.log" >&2
      die "no $what within $seconds s"
    fi
    sleep 0.2
  done
}
