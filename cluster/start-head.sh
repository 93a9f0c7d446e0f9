#!/usr/bin/env bash
# Start the head of a cluster on this machine: secrets, MLflow server, Ray.
#
#   start-head.sh [ARGUMENTS OF ray start]
#
# RFRAY_HEAD_ADDRESS   this machine's address as the workers reach it (default: its first)
set -euo pipefail
. "$(dirname "$0")/environment.sh"
here=$RFRAY_CODE/cluster
address=${RFRAY_HEAD_ADDRESS:-$(hostname -I | cut -d' ' -f1)}
: "${RFRAY_STORAGE:?run use-storage.sh first}"

bash "$here/secrets.sh"
printf 'export RAY_ADDRESS=%q\nexport MLFLOW_TRACKING_URI=%q\n' \
  "$address:$RFRAY_RAY_PORT" "http://$address:$RFRAY_MLFLOW_PORT" >"$RFRAY_STATE/services.sh"

bash "$here/mlflow.sh" start "$address"

export MLFLOW_TRACKING_URI=http://$address:$RFRAY_MLFLOW_PORT # for what `ray job submit` starts
unset RAY_ADDRESS # of a head before this one
ray stop
ulimit -n 65536 2>/dev/null || true # where the system allows it
exec ray start --head --node-ip-address="$address" --port="$RFRAY_RAY_PORT" \
  --dashboard-host=127.0.0.1 --disable-usage-stats "$@"
