#!/usr/bin/env bash
# Say where this node finds the folder that all nodes share, and where artifacts go.
#
#   use-storage.sh FOLDER [ARTIFACTS]
#
# FOLDER     mounted on every node at the same path: checkpoints, and Tune's records
# ARTIFACTS  s3://BUCKET/PATH: nodes read and write it themselves;
#            a folder: the MLflow server on the head keeps them there (default: FOLDER/artifacts)
set -euo pipefail
. "$(dirname "$0")/environment.sh"
folder=${1:?use-storage.sh FOLDER [ARTIFACTS]}
artifacts=${2:-$folder/artifacts}

probe=$folder/.rfray-$(uname -n)-$$
touch "$probe" 2>/dev/null || {
  echo "use-storage.sh: $folder cannot be written here: mount the shared folder first" >&2
  exit 1
}
rm "$probe"
mkdir -p "$RFRAY_STATE"
printf 'export RFRAY_STORAGE=%q\nexport RFRAY_ARTIFACTS=%q\n' "$folder" "$artifacts" \
  >"$RFRAY_STATE/storage.sh"
