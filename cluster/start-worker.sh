#!/usr/bin/env bash
# Join this machine to the cluster whose head is at RAY_HEAD_IP (the launcher sets it).
#
#   RAY_HEAD_IP=ADDRESS start-worker.sh [ARGUMENTS OF ray start]
set -euo pipefail
. "$(dirname "$0")/environment.sh"
: "${RAY_HEAD_IP:?the address of the head}"
for secret in ~/.ray/auth_token ~/.mlflow/credentials; do
  [ -s "$secret" ] || {
    echo "start-worker.sh: no $secret: copy it from the head" >&2
    exit 1
  }
  chmod 600 "$secret"
done

unset RAY_ADDRESS
ray stop
ulimit -n 65536 2>/dev/null || true # where the system allows it
exec ray start --address="$RAY_HEAD_IP:$RFRAY_RAY_PORT" --disable-usage-stats "$@"
