# Sourced by the scripts beside it and, once installed, by every login shell of a node: where rfray
# is, how Ray is spoken to, and where results go. Nothing in here is secret.
# shellcheck shell=bash

RFRAY_CODE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export RFRAY_CODE
export RFRAY_ENVIRONMENT=${RFRAY_ENVIRONMENT:-$HOME/rfray-environment}
export RFRAY_STATE=${RFRAY_STATE:-$HOME/.rfray}
export RFRAY_RAY_PORT=${RFRAY_RAY_PORT:-6379}
export RFRAY_MLFLOW_PORT=${RFRAY_MLFLOW_PORT:-5000}

# A process of a cluster without the token in ~/.ray/auth_token is refused.
export RAY_AUTH_MODE=token
export RAY_USAGE_STATS_ENABLED=0

case ":$PATH:" in
  *":$RFRAY_ENVIRONMENT/bin:"*) ;;
  *) export PATH="$RFRAY_ENVIRONMENT/bin:$PATH" ;;
esac

# storage.sh: RFRAY_STORAGE and RFRAY_ARTIFACTS, by use-storage.sh on every node.
# services.sh: RAY_ADDRESS and MLFLOW_TRACKING_URI, by start-head.sh on the head alone.
for rfray_settings in storage.sh services.sh; do
  if [ -r "$RFRAY_STATE/$rfray_settings" ]; then
    # shellcheck source=/dev/null
    . "$RFRAY_STATE/$rfray_settings"
  fi
done
unset rfray_settings
