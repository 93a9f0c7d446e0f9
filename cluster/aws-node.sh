#!/usr/bin/env bash
# Prepare an EC2 instance: packages, the shared file system, where artifacts go.
#
# The addresses are those that aws-stack.yaml left in the Parameter Store; what may be read and
# written there, the instance's profile says. No key lies on the machine.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
mountpoint=/mnt/rfray

cloud-init status --wait >/dev/null || true # its own apt-get runs until then
sudo apt-get update -q
sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -q python3-venv nfs-common
[ -x "$RFRAY_ENVIRONMENT/bin/python" ] || python3 -m venv "$RFRAY_ENVIRONMENT"
"$RFRAY_ENVIRONMENT/bin/pip" install --quiet --constraint "$RFRAY_CODE/cluster/constraints.txt" boto3

parameter() {
  "$RFRAY_ENVIRONMENT/bin/python" - "$1" <<'PYTHON'
import sys, urllib.request, boto3
metadata = "http://169.254.169.254/latest"
asking = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
token = urllib.request.urlopen(
    urllib.request.Request(f"{metadata}/api/token", method="PUT", headers=asking), timeout=10
).read().decode()
region = urllib.request.urlopen(
    urllib.request.Request(
        f"{metadata}/meta-data/placement/region", headers={"X-aws-ec2-metadata-token": token}
    ),
    timeout=10,
).read().decode()
print(boto3.client("ssm", region).get_parameter(Name=sys.argv[1])["Parameter"]["Value"])
PYTHON
}

file_system=$(parameter /rfray/file-system)
bucket=$(parameter /rfray/bucket)
sudo mkdir -p "$mountpoint"
mountpoint -q "$mountpoint" ||
  sudo mount -t nfs4 -o nfsvers=4.1,hard,timeo=600,retrans=2,noresvport "$file_system:/" "$mountpoint"
sudo chown "$USER" "$mountpoint"
bash "$RFRAY_CODE/cluster/use-storage.sh" "$mountpoint" "s3://$bucket/artifacts"
