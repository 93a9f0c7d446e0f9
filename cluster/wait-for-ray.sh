#!/usr/bin/env bash
# Wait until the cluster of this node has NODES nodes (default 1), head included.
#
#   wait-for-ray.sh [NODES] [SECONDS]
set -euo pipefail
. "$(dirname "$0")/environment.sh"
nodes=${1:-1} seconds=${2:-600}
for ((waited = 0; waited < seconds; waited += 2)); do
  # What start-head.sh wrote may be younger than this script.
  . "$RFRAY_CODE/cluster/environment.sh"
  alive=$(python - 2>/dev/null <<'PYTHON'
import os
from ray._raylet import GcsClient
nodes = GcsClient(address=os.environ["RAY_ADDRESS"]).get_all_node_info(timeout=5)
print(sum(node.state == 0 for node in nodes.values()))
PYTHON
  ) || alive=0
  [ "$alive" -ge "$nodes" ] && exit 0
  sleep 2
done
echo "wait-for-ray.sh: $alive of $nodes nodes after $seconds s" >&2
exit 1
