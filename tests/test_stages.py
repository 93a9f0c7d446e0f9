"""What single stages do, each in a folder of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rfray.cell import Cell
from rfray.models.module import build
from rfray.models.network import INPUT
from rfray.numerics.shuffled_alignment import derangement
from rfray.stages import cka, finetune, importance, train
from rfray.stages.gram_rows import blocks_within, gram_rows, most_alive
from rfray.stages.stage import Input, StageContext
from rfray.training.checkpoint import load_checkpoint
from rfray.training.weights import initial_module, load_module, save_module

CELL = Cell(dataset="digits", arch="vgg19_rf", kernel_size=5, seed=0, width=0.0625)
PUBLISHED_LARGEST_IMPORTANCE = {  # vgg19_rf, Table 3: mean, standard deviation
    2: (1.24e-5, 2.14e-6),
    3: (2.48e-6, 4.88e-7),
    4: (1.32e-7, 2.48e-8),
    5: (7.26e-8, 1.45e-8),
}


class DiedError(Exception):
    """The stage's process was killed."""


def run(
    stage,
    tmp_path,
    parameters,
    cell=CELL,
    checkpoint="checkpoint",
    inputs=(),
    every=1,
    dies_at=None,
    variant=None,
):
    """Run one stage on its inputs; what it reported, and its workspace."""
    workspace, kept = tmp_path / "workspace", tmp_path / checkpoint
    for folder in (workspace, kept):
        folder.mkdir(exist_ok=True)
    reported = []

    def report(step, metrics):
        reported.append((step, dict(metrics)))
        if step == dies_at:
            raise DiedError

    stage.run(
        StageContext(
            parameters=parameters,
            variant=variant or {},
            cells=(cell,),
            inputs=inputs,
            workspace=workspace,
            checkpoint=kept,
            device="cpu",
            report=report,
            remark=lambda sentence: reported.append((0, {"remark": sentence})),
            checkpoint_every=every,
        )
    )
    return reported, workspace


def protocol(**changes):
    settings = {"epochs": 3, "batch_size": 32, "images_per_epoch": 64, "gradient_clip": 1.0}
    return train.TrainParameters(**{**settings, **changes})


def test_the_best_weights_are_those_of_the_epoch_that_tested_best(tmp_path):
    reported, workspace = run(train, tmp_path, protocol(checkpoint="best", learning_rate=0.5))
    accuracies = [metrics["test_accuracy"] for _, metrics in reported[:3]]
    step, last = reported[3]
    assert step == 4
    assert last["kept_epoch"] == accuracies.index(max(accuracies)) + 1
    assert last["test_accuracy"] == max(accuracies)
    from rfray.data.device import resident
    from rfray.training.evaluate import evaluate

    data = resident("digits", "cpu")
    kept = load_module(CELL, workspace / "model.safetensors", "cpu")
    assert evaluate(kept, data.test, data.facts).accuracy == max(accuracies)


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_stage_started_anew_on_its_checkpoint_reports_and_leaves_the_same(tmp_path, keep):
    whole, first = run(train, tmp_path, protocol(checkpoint=keep))
    weights = (first / "model.safetensors").read_bytes()
    again, second = run(train, tmp_path, protocol(checkpoint=keep))
    assert again == whole
    assert (second / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("dies_at", [1, 2, 3, 5])
@pytest.mark.parametrize("keep", ["last", "best"])
def test_training_that_died_goes_on_from_its_last_checkpoint(tmp_path, keep, dies_at):
    settings = protocol(checkpoint=keep, epochs=5)
    again_is_the_same(tmp_path, train, settings, dies_at)


@pytest.mark.parametrize("damage", ["cut short", "another's", "missing"])
def test_best_weights_that_are_not_those_saved_are_refused_and_trained_anew(tmp_path, damage):
    settings = protocol(checkpoint="best")
    _, workspace = run(train, tmp_path, settings)
    weights = (workspace / "model.safetensors").read_bytes()
    (best,) = (tmp_path / "checkpoint").glob("best-*.safetensors")
    if damage == "cut short":
        best.write_bytes(best.read_bytes()[:-8])
    elif damage == "another's":
        save_module(initial_module(CELL, "cpu"), best)
    else:
        best.unlink()
    with pytest.raises(RuntimeError, match="missing or damaged"):
        run(train, tmp_path, settings)
    _, workspace = run(train, tmp_path, settings)
    assert (workspace / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("dies_at", [1, 3, 5])
def test_fine_tuning_that_died_goes_on_from_its_last_checkpoint(tmp_path, dies_at):
    dense = Input(stage="train", cell=CELL, folder=tmp_path, metrics={"test_accuracy": 50.0})
    pruned = initial_module(CELL, "cpu")
    with torch.no_grad():
        for weight in pruned.parameters():
            weight[weight.abs() < weight.abs().median()] = 0
    save_module(pruned, tmp_path / "model.safetensors")
    inputs = (dense, Input(stage="prune", cell=CELL, folder=tmp_path, metrics={}))
    settings = finetune.FinetuneParameters(epochs=5, images_per_epoch=64)
    again_is_the_same(tmp_path, finetune, settings, dies_at, inputs)


@pytest.mark.parametrize("wanted", [False, True])
def test_a_stage_is_deterministic_as_it_is_asked_to_be_and_leaves_the_process_as_it_was(
    tmp_path, wanted
):
    seen = []

    def report(_step, _metrics):
        seen.append(torch.are_deterministic_algorithms_enabled())

    for folder in ("workspace", "checkpoint"):
        (tmp_path / folder).mkdir()
    train.run(
        StageContext(
            parameters=protocol(deterministic=wanted),
            variant={},
            cells=(CELL,),
            inputs=(),
            workspace=tmp_path / "workspace",
            checkpoint=tmp_path / "checkpoint",
            device="cpu",
            report=report,
            remark=print,
        )
    )
    assert seen == [wanted] * 3
    assert not torch.are_deterministic_algorithms_enabled()


def again_is_the_same(tmp_path, stage, settings, dies_at, inputs=()):
    """A stage that died is started anew: only what no checkpoint held is computed again."""
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole, first = run(stage, tmp_path / "whole", settings, inputs=inputs, every=2)
    (left,) = (path for path in first.iterdir() if path.name.startswith("model"))
    with pytest.raises(DiedError):
        run(stage, tmp_path / "cut", settings, inputs=inputs, every=2, dies_at=dies_at)
    saved = {1: 0, 2: 2, 3: 2, 5: 5}[dies_at]
    path = tmp_path / "cut" / "checkpoint" / f"{stage.STAGE.name}.safetensors"
    module = initial_module(CELL, "cpu")
    optimizer = torch.optim.SGD(module.parameters(), momentum=0.9)
    assert len(load_checkpoint(path, module, optimizer)) == saved
    again, second = run(stage, tmp_path / "cut", settings, inputs=inputs, every=2)
    assert without_times(again) == without_times(whole)
    assert (second / left.name).read_bytes() == left.read_bytes()


def without_times(reported):
    return [(step, {**metrics, "epoch_seconds": None}) for step, metrics in reported]


@pytest.mark.parametrize("kernel_size", PUBLISHED_LARGEST_IMPORTANCE)
def test_importance_at_full_width_is_the_papers(tmp_path, kernel_size):
    cell = Cell(dataset="digits", arch="vgg19_rf", kernel_size=kernel_size, seed=0)
    reported, workspace = run(importance, tmp_path, importance.ImportanceParameters(draws=6), cell)
    mean, deviation = PUBLISHED_LARGEST_IMPORTANCE[kernel_size]
    found = reported[-1][1]["max_importance_mean"]
    assert abs(found - mean) < 2 * deviation
    maxima = [metrics["max_importance"] for _, metrics in reported[:-1]]
    assert found == pytest.approx(np.mean(maxima))
    assert reported[-1][1]["max_importance_std"] == pytest.approx(np.std(maxima, ddof=1))
    assert np.load(workspace / "pattern.npy").shape == (64, 64)


def test_the_true_backward_pass_gives_far_smaller_gradients(tmp_path):
    """ReLUs that block and max-pools that choose: at full width 10 to 20 times smaller."""
    cell = Cell(dataset="digits", arch="vgg19_rf", kernel_size=3, seed=0, width=0.25)
    found = {}
    for backward in ("linear", "true"):
        settings = importance.ImportanceParameters(draws=4, backward=backward)
        found[backward] = run(importance, tmp_path, settings, cell)[0][-1][1]["max_importance_mean"]
    assert 0 < found["true"] < found["linear"] / 3


def test_importance_draws_do_not_depend_on_how_many_there_are(tmp_path):
    few = run(importance, tmp_path, importance.ImportanceParameters(draws=2, image_size=32))[0]
    more = run(importance, tmp_path, importance.ImportanceParameters(draws=3, image_size=32))[0]
    assert few[:2] == more[:2]


IMAGES = 24


def warmed(cell):
    """A fresh network whose batch norms know the statistics of its maps, as a trained one's do."""
    module = initial_module(cell, "cpu")
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        module.train()(first_images())
    return module.eval()


def trained(tmp_path, seed, arch="resnet50", dead=None):
    """A train input with a warmed network's weights; the weights of layer `dead` are zero."""
    cell = Cell(dataset="digits", arch=arch, kernel_size=5, seed=seed, width=0.0625)
    module = warmed(cell)
    if dead is not None:
        torch.nn.init.zeros_(module.get_submodule(dead).weight)
    folder = tmp_path / f"train-{arch}-{seed}-{dead}"
    folder.mkdir(exist_ok=True)
    save_module(module, folder / "model.safetensors")
    save_module(initial_module(cell, "cpu"), folder / "init.safetensors")
    return Input(stage="train", cell=cell, folder=folder, metrics={})


def compare(tmp_path, inputs, checkpoint="checkpoint", variant=None, **settings):
    """Run cka: its metrics and remark, and the arrays that it leaves."""
    parameters, cell = cka.CkaParameters(images=IMAGES, **settings), inputs[0].cell
    reported, workspace = run(cka, tmp_path, parameters, cell, checkpoint, inputs, variant=variant)
    metrics = {name: value for _, entry in reported for name, value in entry.items()}
    with np.load(workspace / "cka.npz") as arrays:
        return metrics, dict(arrays)


def first_images():
    from rfray.data.device import normalised, resident

    data = resident("digits", "cpu")
    return normalised(data.test.images[:IMAGES], data.facts)


def u_centred(gram):
    """By Székely & Rizzo 2014."""
    n = len(gram)
    gram = gram - gram.diag().diag()
    sums = gram.sum(dim=0)
    gram = gram - (sums[:, None] + sums) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    return gram - gram.diag().diag()


def textbook_alignment(
    first, second, weights="model.safetensors", others=slice(None), estimator="biased"
):
    """Linear CKA of all layers by plain forward passes, every matrix whole, in float64."""

    def centred_grams(source, places=slice(None)):
        module = load_module(source.cell, source.folder / weights, "cpu").eval()
        dtype = torch.float64 if weights.startswith("init") else torch.float32
        grams = []
        for layer in source.cell.network.weight_layers:
            module.get_submodule(layer.name).register_forward_hook(
                lambda _module, _inputs, output: grams.append(output.flatten(1).double())
            )
        with torch.no_grad():
            module.to(dtype)(first_images()[places].to(dtype))
        centred = [features - features.mean(dim=0) for features in grams]
        matrices = [features @ features.T for features in centred]
        return matrices if estimator == "biased" else list(map(u_centred, matrices))

    one, other = centred_grams(first), centred_grams(second, others)
    return [[float((k * l).sum() / (k.norm() * l.norm())) for l in other] for k in one]  # noqa: E741


@pytest.mark.parametrize("arch", ["vgg19_rf", "resnet50"])
def test_cka_is_the_textbook_alignment_of_all_layers_of_all_pairs(tmp_path, arch):
    inputs = [trained(tmp_path, seed, arch) for seed in (0, 1, 2)]
    metrics, arrays = compare(tmp_path, inputs)
    names = [layer.name for layer in inputs[0].cell.network.weight_layers]
    assert arrays["layers"].tolist() == names
    assert arrays["pairs"].tolist() == [[0, 1], [0, 2], [1, 2]]
    for (a, b), matrix in zip(arrays["pairs"], arrays["matrices"], strict=True):
        np.testing.assert_allclose(matrix, textbook_alignment(inputs[a], inputs[b]), atol=1e-5)
    diagonals = arrays["matrices"].diagonal(axis1=1, axis2=2)
    assert metrics["cka_diagonal_mean"] == pytest.approx(diagonals.mean())
    assert metrics["undefined_layers"] == 0
    assert metrics["forward_passes"] == 1
    assert metrics["wall_seconds"] > 0


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize("arch", ["vgg19_rf", "resnet50"])
def test_cka_of_untrained_networks_is_that_of_their_first_weights(tmp_path, arch, estimator):
    """In vgg19_rf the variation of the last maps is 1e-11 of their mean: lost to float32."""
    inputs = [trained(tmp_path, seed, arch) for seed in (0, 1)]
    metrics, arrays = compare(tmp_path, inputs, variant={"at": "init"}, estimator=estimator)
    expected = textbook_alignment(*inputs, weights="init.safetensors", estimator=estimator)
    np.testing.assert_allclose(arrays["matrices"][0], expected, atol=1e-5)
    assert metrics["undefined_layers"] == 0


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_the_baseline_is_the_alignment_with_the_second_networks_images_shuffled(
    tmp_path, estimator
):
    inputs = [trained(tmp_path, seed) for seed in (0, 1)]
    metrics, arrays = compare(tmp_path, inputs, estimator=estimator)
    others = derangement(IMAGES, 0)
    expected = np.array(textbook_alignment(*inputs, others=others, estimator=estimator))
    np.testing.assert_allclose(arrays["shuffled"][0], expected.diagonal(), atol=1e-5)
    assert metrics["cka_shuffled_mean"] == pytest.approx(arrays["shuffled"].mean())


def test_the_unbiased_estimate_of_few_images_is_refused_in_a_sentence():
    few = cka.CkaParameters(images=3, estimator="unbiased")
    assert cka.check(few, CELL) == ("cka.images is 3, but cka.estimator unbiased needs at least 4")
    assert cka.check(cka.CkaParameters(images=4, estimator="unbiased"), CELL) is None
    assert cka.check(cka.CkaParameters(images=2), CELL) is None


def test_cka_does_not_depend_on_the_order_of_the_seeds(tmp_path):
    inputs = [trained(tmp_path, seed) for seed in (0, 1, 2)]
    _, forth = compare(tmp_path, inputs, "forth")
    _, back = compare(tmp_path, inputs[::-1], "back")
    assert back["pairs"].tolist() == forth["pairs"].tolist()
    np.testing.assert_array_equal(back["matrices"], forth["matrices"])


def test_cka_names_a_dead_layer_and_what_reads_it_and_spoils_no_other(tmp_path):
    alive, healthy = trained(tmp_path, 0), trained(tmp_path, 1)
    broken = trained(tmp_path, 1, dead="stage2_block1_conv2")
    metrics, arrays = compare(tmp_path, [alive, broken], "with-dead")
    dead = ["stage2_block1_conv2", "stage2_block1_conv3"]  # its batch norm makes it a constant
    assert arrays["undefined"].tolist() == dead
    assert metrics["undefined_layers"] == 2
    assert metrics["remark"].endswith(
        "constant over images: stage2_block1_conv2, stage2_block1_conv3."
    )
    (matrix,) = arrays["matrices"]
    columns = np.isin(arrays["layers"], dead)
    assert np.isnan(matrix[:, columns]).all()
    assert np.isfinite(matrix[:, ~columns]).all()
    assert metrics["cka_diagonal_mean"] == pytest.approx(np.nanmean(matrix.diagonal()))
    _, expected = compare(tmp_path, [alive, healthy], "without-dead")
    before = arrays["layers"].tolist().index(dead[0])
    np.testing.assert_array_equal(matrix[:, :before], expected["matrices"][0][:, :before])


@pytest.mark.parametrize("blocks", [3, 7, IMAGES])
def test_how_maps_are_kept_small_changes_nothing_but_rounding(blocks):
    module, images = warmed(CELL), first_images()
    expected = gram_rows(module, images)
    found = gram_rows(module, images, blocks)
    torch.testing.assert_close(found @ found.T, expected @ expected.T, atol=1e-5, rtol=0)


def test_a_network_that_gives_no_numbers_is_refused_by_the_name_of_the_layer():
    from rfray.numerics.errors import NumericsError

    module = build(CELL.network, 0).eval()
    torch.nn.init.constant_(module.get_submodule("block2_conv1").weight, torch.nan)
    with pytest.raises(NumericsError, match="layer 'block2_conv1': a feature is not finite"):
        gram_rows(module, first_images())


def test_images_are_cut_into_as_few_blocks_as_the_memory_allows():
    network = Cell(dataset="cifar10", arch="resnet50", kernel_size=2, seed=0).network
    each = 4 * most_alive(network, 32)  # bytes
    assert blocks_within(network, 32, 1000, 1000 * each) == 2  # all at once
    assert blocks_within(network, 32, 1000, 1000 * each - 1) == 3
    assert blocks_within(network, 32, 1000, (2 * 100 + 1) * each) == 10
    assert blocks_within(network, 32, 1000, 1) == 1000


@pytest.mark.parametrize("arch", ["vgg19_rf", "resnet50"])
def test_the_most_numbers_alive_are_those_of_a_forward_pass(arch):
    """Counted on the maps of the pass itself, which lie between the layers."""
    network = Cell(dataset="cifar10", arch=arch, kernel_size=2, width=0.0625, seed=0).network
    module = build(network, 0).eval()
    maps = {INPUT: torch.zeros(1, 3, 32, 32)}
    most = 0
    for index in range(len(network.layers)):
        after = module.advance(maps, index, index + 1)
        both = {id(one): one.numel() for one in (*maps.values(), *after.values())}
        most = max(most, sum(both.values()) - (32 * 32 * 3 if INPUT in maps else 0))
        maps = after
    assert most == most_alive(network, 32)
