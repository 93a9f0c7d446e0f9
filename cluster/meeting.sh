# Sourced by driver.sbatch and worker.sbatch: where the driver and the workers of a sweep under Slurm
# meet, and how Ray is started where others compute too.
# shellcheck shell=bash
#
#   $RFRAY_STORAGE/meeting/address   HOST:PORT of Ray's head, from its start to its end
#   $RFRAY_STORAGE/meeting/token     what whoever joins has to show; its owner's alone (mode 600)
#   $RFRAY_STORAGE/meeting/over      the sweep has ended: no worker need come

RFRAY_STORAGE=$(mkdir -p "${RFRAY_STORAGE:-rfray-results}" && cd "${RFRAY_STORAGE:-rfray-results}" && pwd)
export RFRAY_STORAGE
meeting=$RFRAY_STORAGE/meeting
(umask 077 && mkdir -p "$meeting")

# What another cluster of this user left at home is not meant here.
export RFRAY_STATE=$meeting
. "${here:?the folder of this file}/environment.sh"
export RAY_AUTH_TOKEN_PATH=$meeting/token
unset RAY_ADDRESS RAY_AUTH_TOKEN

say() { echo "$(date +%T) ${SLURM_JOB_NAME:-rfray} ${SLURM_JOB_ID:-on $(hostname -s)}: $*"; }

# Ray's sockets lie there, whose paths may have 107 bytes: 64 of them are Ray's own.
private_folder() {
  local place=${TMPDIR:-/tmp}
  if [ "${#place}" -gt 30 ] || [ ! -w "$place" ]; then place=/tmp; fi
  mktemp -d "$place/rfray-XXXXXX"
}

# Ports that the system chooses, for several such may run on one machine, of this user and of others;
# and as much memory for what processes hand each other as rfray has use for, of a node that is shared.
# It ends with the script that started it, however that ends.
ray_alone() {
  ulimit -n 65536 2>/dev/null || true # where the system allows it
  export TMPDIR=${folder:?made by private_folder} # what a process leaves that was killed goes with the folder
  exec setpriv --pdeathsig TERM ray start --block --disable-usage-stats --temp-dir="$folder" --object-store-memory=500000000 \
    --node-manager-port=0 --object-manager-port=0 --min-worker-port=0 --max-worker-port=0 \
    --dashboard-agent-listen-port=0 "$@"
}

# Whether the head whose address lies here answers to the token that lies here.
head_answers() {
  [ -s "$meeting/address" ] && python - "$meeting" <<'PYTHON'
import sys
from pathlib import Path
from rfray.engine.cluster_probe import Answer, ask
try:
    address, token = (Path(sys.argv[1], name).read_text().strip() for name in ("address", "token"))
except OSError:
    sys.exit(1)
sys.exit(ask(address, token, 5) is not Answer.WELCOME)
PYTHON
}

# Have Slurm queue this job anew, which ends it. The first task of an array has the array's own number
# as its job's, by which Slurm would queue every task.
queue_again() {
  trap '' TERM # which is how Slurm then ends it
  say "is queued again"
  if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
  else
    scontrol requeue "$SLURM_JOB_ID"
  fi
}

# Sleep, but hear signals meanwhile.
rest() { sleep "$1" & wait $! || true; }

# Whether the head is still the one that was at an address.
head_stays() {
  local address=''
  [ ! -e "$meeting/over" ] && read -r address 2>/dev/null <"$meeting/address" && [ "$address" = "$1" ]
}

# The GPUs that Slurm gave this task; none where it gave none, whatever the node has.
gpus_of_task() {
  local devices=${CUDA_VISIBLE_DEVICES:-}
  [ "$devices" != NoDevFiles ] || devices=''
  tr ',' '\n' <<<"$devices" | grep -c . || true
}
