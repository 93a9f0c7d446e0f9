# The image of every pod of cluster/kuberay.yaml: Ray's own, and rfray at the pinned versions.
#
#   docker build -t REGISTRY/rfray . && docker push REGISTRY/rfray
FROM rayproject/ray:2.60.0-py312

COPY --chown=ray:users . /home/ray/rfray
RUN pip install --no-cache-dir --constraint /home/ray/rfray/cluster/constraints.txt \
    "/home/ray/rfray[cluster]"
WORKDIR /home/ray
