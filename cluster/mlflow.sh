#!/usr/bin/env bash
# The MLflow server of a cluster, on its head: PostgreSQL behind it, a password before it.
#
#   mlflow.sh start ADDRESS    serve at http://ADDRESS:5000; returns when it answers
#   mlflow.sh stop             stop the server and its database
#
# The database is this user's own: no port, a socket in a folder that nobody else may enter. With
# MLFLOW_BACKEND_STORE_URI set to a database elsewhere, that one is used and none is started.
set -euo pipefail
umask 077
. "$(dirname "$0")/environment.sh"
database=$RFRAY_STATE/postgres
log=$RFRAY_STATE/mlflow.log
pid=$RFRAY_STATE/mlflow.pid

postgres() { # a PostgreSQL tool, wherever the distribution keeps it
  local tool=$1 found
  shift
  found=$(command -v "$tool" || find /usr/lib/postgresql -path "*/bin/$tool" | sort -V | tail -n 1)
  [ -n "$found" ] || {
    echo "mlflow.sh: PostgreSQL's $tool is not here: install the package postgresql" >&2
    exit 1
  }
  "$found" "$@"
}

start_database() {
  if [ ! -s "$database/PG_VERSION" ]; then
    # Whoever may open the socket is this user, or root: no password would add to that.
    postgres initdb --pgdata="$database" --username=rfray --auth=trust --encoding=UTF8 \
      --locale=C.UTF-8 >/dev/null
    mkdir -p "$database/socket"
  fi
  # A head that died left its process number behind, which may be another process by now.
  postgres pg_ctl status --pgdata="$database" >/dev/null 2>&1 ||
    postgres pg_ctl start --pgdata="$database" --wait --silent --log="$RFRAY_STATE/postgres.log" \
      --options="-c listen_addresses='' -c unix_socket_directories='$database/socket'"
  local name
  for name in mlflow mlflow_auth; do
    postgres psql --host="$database/socket" --username=rfray --dbname=postgres --tuples-only \
      --command="SELECT 1 FROM pg_database WHERE datname = '$name'" | grep -q 1 ||
      postgres createdb --host="$database/socket" --username=rfray "$name"
  done
}

socket_uri() { printf 'postgresql+psycopg2://rfray@/%s?host=%s' "$1" "$database/socket"; }

answers() { python - "$1" <<'PYTHON'
import sys, urllib.request
try:
    urllib.request.urlopen(f"{sys.argv[1]}/health", timeout=5).close()
except OSError:
    sys.exit(1)
PYTHON
}

from_credentials() { # one line of the file that MLflow's client reads, without an argument for it
  sed -n "s/^mlflow_tracking_$1 *= *//p" ~/.mlflow/credentials
}

start() {
  local address=$1 uri
  uri=http://$address:$RFRAY_MLFLOW_PORT
  mkdir -p "$RFRAY_STATE"
  if answers "$uri"; then return; fi
  if [ -z "${MLFLOW_BACKEND_STORE_URI:-}" ]; then
    start_database
    MLFLOW_BACKEND_STORE_URI=$(socket_uri mlflow)
    users=$(socket_uri mlflow_auth)
  fi
  export MLFLOW_BACKEND_STORE_URI
  export MLFLOW_AUTH_CONFIG_PATH=$RFRAY_STATE/basic_auth.ini
  # Checking a password takes a good part of a request's time: once a minute is enough.
  printf '[mlflow]\ndefault_permission = NO_PERMISSIONS\nauth_cache_ttl_seconds = 60\n%s\n' \
    "database_uri = ${users:-$MLFLOW_BACKEND_STORE_URI}" >"$MLFLOW_AUTH_CONFIG_PATH"
  MLFLOW_AUTH_ADMIN_USERNAME=$(from_credentials username)
  MLFLOW_AUTH_ADMIN_PASSWORD=$(from_credentials password)
  MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat "$RFRAY_STATE/flask_secret")
  export MLFLOW_AUTH_ADMIN_USERNAME MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
  export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false

  local artifacts=(--artifacts-destination "$RFRAY_ARTIFACTS")
  case $RFRAY_ARTIFACTS in
    s3://*) artifacts=(--no-serve-artifacts --default-artifact-root "$RFRAY_ARTIFACTS") ;;
  esac
  # A request whose Host is none of these is refused: no page in a browser can speak to it.
  local hosts=$address:$RFRAY_MLFLOW_PORT,localhost:$RFRAY_MLFLOW_PORT,127.0.0.1:$RFRAY_MLFLOW_PORT
  setsid nohup mlflow server --app-name basic-auth --host "$address" --port "$RFRAY_MLFLOW_PORT" \
    --workers 2 --allowed-hosts "$hosts" "${artifacts[@]}" >>"$log" 2>&1 </dev/null &
  echo $! >"$pid"
  local waited=0
  until answers "$uri"; do
    waited=$((waited + 1))
    if [ "$waited" -gt 120 ] || ! kill -0 "$(cat "$pid")" 2>/dev/null; then
      echo "mlflow.sh: the MLflow server did not start: see $log" >&2
      exit 1
    fi
    sleep 1
  done
}

stop() {
  if [ -s "$pid" ]; then
    local group waited=0
    group=-$(cat "$pid")
    kill -TERM -- "$group" 2>/dev/null || true
    while kill -0 -- "$group" 2>/dev/null; do
      waited=$((waited + 1))
      [ "$waited" -le 30 ] || kill -KILL -- "$group"
      sleep 1
    done
    rm "$pid"
  fi
  if [ -s "$database/PG_VERSION" ]; then
    postgres pg_ctl stop --pgdata="$database" --mode=fast --silent || true
  fi
}

case ${1:-} in
  start) start "${2:?mlflow.sh start ADDRESS}" ;;
  stop) stop ;;
  *)
    echo "mlflow.sh start ADDRESS | stop" >&2
    exit 2
    ;;
esac
