#!/usr/bin/env bash
# Prepare a machine of Google Cloud: packages, and the file store that all machines share.
#
#   gcp-node.sh ADDRESS:/SHARE
set -euo pipefail
. "$(dirname "$0")/environment.sh"
share=${1:?gcp-node.sh ADDRESS:/SHARE}
mountpoint=/mnt/rfray

sudo apt-get -o DPkg::Lock::Timeout=300 update -q
sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q \
  python3-venv nfs-common
sudo mkdir -p "$mountpoint"
mountpoint -q "$mountpoint" ||
  sudo mount -t nfs -o hard,timeo=600,retrans=3 "$share" "$mountpoint"
sudo chown "$USER" "$mountpoint"
bash "$RFRAY_CODE/cluster/use-storage.sh" "$mountpoint"
