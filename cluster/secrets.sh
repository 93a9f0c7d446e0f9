#!/usr/bin/env bash
# Make the cluster's secrets on the head, once; those that are there already stay.
#
#   ~/.ray/auth_token       Ray's token, where Ray looks for it
#   ~/.mlflow/credentials   user and password of the MLflow server, where its client looks
#   ~/.rfray/flask_secret   with which the MLflow server signs
#
# MLFLOW_TRACKING_PASSWORD and RAY_AUTH_TOKEN, if set, are taken instead of random ones. All files
# are their owner's alone (mode 600), and no secret is ever an argument of a command.
set -euo pipefail
umask 077
. "$(dirname "$0")/environment.sh"

random() { python -c 'import secrets; print(secrets.token_hex(32))'; }

mkdir -p ~/.ray ~/.mlflow "$RFRAY_STATE"
if [ ! -s ~/.ray/auth_token ]; then
  printf '%s' "${RAY_AUTH_TOKEN:-$(random)}" >~/.ray/auth_token
fi
if [ ! -s ~/.mlflow/credentials ]; then
  printf '[mlflow]\nmlflow_tracking_username = %s\nmlflow_tracking_password = %s\n' \
    "${MLFLOW_TRACKING_USERNAME:-rfray}" "${MLFLOW_TRACKING_PASSWORD:-$(random)}" \
    >~/.mlflow/credentials
fi
[ -s "$RFRAY_STATE/flask_secret" ] || random >"$RFRAY_STATE/flask_secret"
chmod 600 ~/.ray/auth_token ~/.mlflow/credentials "$RFRAY_STATE/flask_secret"
