#!/usr/bin/env bash
# On the head: bring one more machine into the running cluster. It gets the code, the secrets and
# the packages, and joins.
#
#   add-worker.sh USER@ADDRESS [OPTIONS OF ssh]
#
# The machine mounts the shared folder already. A head that `ray up` started reaches the machines
# with `-i ~/ray_bootstrap_key.pem`.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
machine=${1:?add-worker.sh USER@ADDRESS [OPTIONS OF ssh]}
shift
through=(ssh -o StrictHostKeyChecking=accept-new "$@")

rsync -a --rsh "${through[*]}" --filter 'dir-merge,- .gitignore' "$RFRAY_CODE/" "$machine:rfray/"
rsync -a --relative --rsh "${through[*]}" \
  "$HOME/./.ray/auth_token" "$HOME/./.mlflow/credentials" "$machine:"
printf -v storage '%q %q' "$RFRAY_STORAGE" "$RFRAY_ARTIFACTS"
printf -v join '%q' "set -e; cd rfray/cluster; bash use-storage.sh $storage; bash install.sh
  RAY_HEAD_IP=${RAY_ADDRESS%:*} bash start-worker.sh"
exec "${through[@]}" "$machine" "bash -lc $join"
