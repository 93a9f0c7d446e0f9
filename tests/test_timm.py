"""Networks of timm, read as torchvision's are; where timm is not installed these tests rest."""

from __future__ import annotations

import re

import pytest
import torch
from tiny_study import TINY_SWEEP

from rfray.models.geometry import geometry
from rfray.models.module import build
from rfray.models.opaque import OpaqueNetwork
from rfray.models.outside import code_digest, outside_network
from rfray.models.registry import naming_problem
from rfray.plan import make_plan
from rfray.study.sweep_file import load_study

timm = pytest.importorskip("timm", reason="timm is not installed: pip install 'rfray[timm]'")

NETWORKS = ["mobilenetv3_small_050", "convnext_atto", "regnetx_002"]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_description_computes_what_timms_module_does(name):
    torch.manual_seed(3)
    own = timm.create_model(name, pretrained=False, num_classes=10)
    read = build(outside_network(f"timm:{name}", 1, 1.0, 10), 3)
    images = torch.randn(2, 3, 64, 64)
    for training in (False, True):
        outputs = []
        for module in (own.train(training), read.train(training)):
            torch.manual_seed(1)
            with torch.no_grad():
                outputs.append(module(images))
        torch.testing.assert_close(*outputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_has_the_parameters_that_timms_module_has(name):
    shape = geometry(outside_network(f"timm:{name}", 1, 1.0, 1000), 224)
    own = timm.create_model(name, pretrained=False)
    assert shape.parameters == sum(parameter.numel() for parameter in own.parameters())


def field(*layers):
    """Of convolutions one behind the other, (kernel, stride) each, by hand."""
    size, jump = 1, 1
    for kernel, stride in layers:
        size, jump = size + (kernel - 1) * jump, jump * stride
    return size


def test_receptive_fields_are_what_the_papers_depths_give():
    halved = (3, 2)
    stages = [[halved, *[(3, 1)] * (depth - 1)] for depth in (1, 1, 4, 7)]
    regnet = field(halved, *(layer for stage in stages for layer in stage))
    stages = [[(7, 1)] * depth for depth in (2, 2, 6, 2)]
    convnext = field((4, 4), *stages[0], (2, 2), *stages[1], (2, 2), *stages[2], (2, 2), *stages[3])
    for name, known in (("regnetx_002", regnet), ("convnext_atto", convnext)):
        assert geometry(outside_network(f"timm:{name}", 1, 1.0, 9), 224).receptive_field == known


def test_a_study_takes_it_by_name(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY_SWEEP)
    words = ["axes.arch=['timm:regnetx_002']", "axes.kernel_size=[1]", "axes.width=null"]
    plan = make_plan(load_study(str(tmp_path / "tiny.yaml"), words))
    assert any(node.name.startswith("timm.regnetx_002-digits") for node in plan.nodes.values())
    assert code_digest("timm:regnetx_002").startswith("regnetx_002-")


def test_a_misspelt_name_is_told_with_the_nearest():
    assert naming_problem("timm:resnet81") == (
        "timm has no classification network 'resnet81' (did you mean 'timm:resnet18'?)"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit_tiny_patch16_224", r"module 'blocks.0.attn' \(Attention\) is attention"),
        ("vgg11", r"module 'pre_logits' \(ConvMlp\) cannot be read: what it computes depends on"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_modules_name(name, words):
    network = outside_network(f"timm:{name}", 1, 1.0, 10)
    assert isinstance(network, OpaqueNetwork)
    assert re.search(words, network.reason)
