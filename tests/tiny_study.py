"""The smallest study that has every stage."""

TINY_SWEEP = """\
name: tiny
axes:
  dataset: [digits]
  arch: [vgg19_rf]
  kernel_size: [5]
  seed: [0, 1]
  width: [0.0625]
train: {epochs: 1, batch_size: 32, images_per_epoch: 64, gradient_clip: 1.0}
prune: {rates: [0.5, 0.9]}
finetune: {epochs: 1, batch_size: 32, images_per_epoch: 32}
hessian: {at: [init], n: 2, images: 4, tolerance: 0.1, probes: 1, steps: 3}
cka: {images: 16}
importance: {draws: 2, image_size: 32}
"""
"""Two networks and every stage: 2 × (train, 2 prune, 2 finetune, 1 hessian) + cka + importance."""

TINY_RUNS = 14

TINY_REPORT = """\
title: Tiny
tables:
  - {id: dense, title: Dense,
     columns: [{name: dense, title: Dense, stage: train, metric: test_accuracy}]}
figures: [{id: cka, kind: cka, title: Similarity of the layers of two seeds}]
"""
"""A table of measured values and a figure of an artifact: the shipped report draws for seconds."""
