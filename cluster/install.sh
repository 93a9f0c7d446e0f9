#!/usr/bin/env bash
# Install rfray and what it needs on this node, at the pinned versions, into $RFRAY_ENVIRONMENT.
#
#   install.sh          with PYTHON=python3.12 in front to choose the Python
set -euo pipefail
. "$(dirname "$0")/environment.sh"
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "install.sh: $python is older than 3.11: name a newer one with PYTHON=" >&2
  exit 1
}
[ -x "$RFRAY_ENVIRONMENT/bin/python" ] || "$python" -m venv "$RFRAY_ENVIRONMENT"
"$RFRAY_ENVIRONMENT/bin/python" -m pip install --quiet --disable-pip-version-check \
  --constraint "$RFRAY_CODE/cluster/constraints.txt" --editable "${RFRAY_CODE}[cluster]"

# A login finds the environment: `ray attach` and `ray exec` start login shells.
hook=". $RFRAY_CODE/cluster/environment.sh"
grep -qxF "$hook" "$HOME/.bashrc" 2>/dev/null || echo "$hook" >>"$HOME/.bashrc"
