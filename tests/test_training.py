"""Training is deterministic in its seed, survives an interruption, and fails honestly."""

from __future__ import annotations

import pytest
import torch
from pruned import masks_of
from torch import nn

from rfray.cell import Cell
from rfray.data.cache import prepared
from rfray.data.device import normalised, resident
from rfray.data.registry import dataset_source
from rfray.models.geometry import geometry
from rfray.seeding import stream_seed
from rfray.training.checkpoint import EpochRecord, load_checkpoint, save_checkpoint
from rfray.training.evaluate import evaluate
from rfray.training.loop import LossNotFiniteError, train_epochs, train_with_frozen_batch_norms
from rfray.training.optimization import optimizer_for
from rfray.training.protocol import TrainingProtocol
from rfray.training.pruning import apply_masks, hold_masks, live_sparsity, sparsity
from rfray.training.step import autocast_dtype
from rfray.training.weights import initial_module, load_module, save_module

CELL = Cell(dataset="digits", arch="vgg19_rf", kernel_size=5, seed=3, width=0.0625)
PROTOCOL = TrainingProtocol(epochs=3, batch_size=32, images_per_epoch=80, gradient_clip=1.0)


def trained(protocol, module=None, optimizer=None, **options):
    module = module or initial_module(CELL, "cpu")
    optimizer = optimizer or optimizer_for(module, protocol)
    data = resident("digits", "cpu")
    return module, optimizer, train_epochs(module, optimizer, data, protocol, CELL.seed, **options)


def same_weights(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_digits_are_what_their_facts_say():
    data = prepared(dataset_source("digits"))
    facts = data.facts
    assert (len(data.train), len(data.test)) == (facts.train_images, facts.test_images)
    assert data.train.images.dtype == torch.uint8
    assert data.train.images.shape[1:] == (3, facts.image_size, facts.image_size)
    assert set(data.train.labels.tolist()) == set(range(facts.classes))
    pixels = normalised(data.train.images, facts)
    assert pixels.mean().abs() < 1e-3
    assert (pixels.std() - 1).abs() < 1e-3


def test_no_digit_is_in_both_splits():
    data = prepared(dataset_source("digits"))
    train = {image.numpy().tobytes() for image in data.train.images}
    assert not any(image.numpy().tobytes() in train for image in data.test.images)


def test_equal_seeds_train_to_equal_bits_whatever_was_drawn_before():
    first, _, epochs = trained(PROTOCOL)
    losses = [epoch.train_loss for epoch in epochs]
    torch.rand(11)
    second, _, epochs = trained(PROTOCOL)
    assert [epoch.train_loss for epoch in epochs] == losses
    assert same_weights(first, second)


def with_dropout():
    module = initial_module(CELL, "cpu")
    return nn.Sequential(nn.Dropout2d(0.5), module)


def test_what_a_network_draws_itself_follows_from_the_seed_and_the_epoch():
    """Dropout draws from the process's random state, which is as it was afterwards."""
    torch.manual_seed(0)
    whole, _, epochs = trained(PROTOCOL, with_dropout())
    losses = [epoch.train_loss for epoch in epochs]
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(0)))
    again, optimizer, epochs = trained(PROTOCOL, with_dropout())
    assert next(epochs).train_loss == losses[0]
    _, _, rest = trained(PROTOCOL, again, optimizer, first_epoch=2)
    assert [epoch.train_loss for epoch in rest] == losses[1:]
    assert same_weights(whole, again)
    _, _, epochs = trained(PROTOCOL)
    assert [epoch.train_loss for epoch in epochs] != losses


@pytest.mark.parametrize("interrupted_after", [1, 2])
def test_an_interrupted_run_ends_in_the_very_same_weights(tmp_path, interrupted_after):
    whole, _, epochs = trained(PROTOCOL)
    list(epochs)
    path = tmp_path / "train.safetensors"
    module, optimizer, epochs = trained(PROTOCOL)
    history = []
    for _ in range(interrupted_after):
        epoch = next(epochs)
        history.append(EpochRecord(epoch.epoch, {"train_loss": epoch.train_loss}))
        save_checkpoint(path, module, optimizer, history)
    module = initial_module(CELL, "cpu")
    optimizer = optimizer_for(module, PROTOCOL)
    assert load_checkpoint(path, module, optimizer) == history
    _, _, rest = trained(PROTOCOL, module, optimizer, first_epoch=interrupted_after + 1)
    assert [epoch.epoch for epoch in rest] == list(range(interrupted_after + 1, 4))
    assert same_weights(whole, module)


def test_without_a_checkpoint_training_starts_at_the_beginning(tmp_path):
    module = initial_module(CELL, "cpu")
    untouched = initial_module(CELL, "cpu")
    optimizer = optimizer_for(module, PROTOCOL)
    assert load_checkpoint(tmp_path / "none.safetensors", module, optimizer) == []
    assert same_weights(module, untouched)


def test_the_last_partial_batch_is_not_lost():
    seen = []
    module = initial_module(CELL, "cpu")
    module.register_forward_pre_hook(lambda _m, inputs: seen.append(len(inputs[0])))
    protocol = TrainingProtocol(epochs=1, batch_size=32, images_per_epoch=80)
    list(trained(protocol, module)[2])
    assert seen == [32, 32, 16]


def test_a_loss_that_is_not_finite_fails_with_epoch_and_step():
    protocol = PROTOCOL.model_copy(update={"learning_rate": 1e30, "gradient_clip": None})
    _, _, epochs = trained(protocol)
    with pytest.raises(LossNotFiniteError, match=r"epoch 1, step \d"):
        list(epochs)


def test_evaluation_in_chunks_counts_every_image_once():
    data = resident("digits", "cpu")
    module = initial_module(CELL, "cpu")
    module.eval()
    with torch.no_grad():
        logits = module(normalised(data.test.images, data.facts))
    labels, chunks = data.test.labels, []
    module.register_forward_pre_hook(lambda _m, inputs: chunks.append(len(inputs[0])))
    found = evaluate(module, data.test, data.facts)
    assert len(chunks) > 1
    assert sum(chunks) == len(labels)
    expected = 100 * (logits.argmax(1) == labels).double().mean().item()
    assert found.accuracy == pytest.approx(expected)
    assert found.loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-6)


def test_weights_on_disk_are_the_weights(tmp_path):
    module = initial_module(CELL, "cpu")
    save_module(module, tmp_path / "w.safetensors")
    assert same_weights(module, load_module(CELL, tmp_path / "w.safetensors", "cpu"))


def test_sparsity_counts_all_weights_and_live_ones():
    module = initial_module(CELL, "cpu")
    assert sparsity(module, CELL.network.weights) == 0
    names = CELL.network.weights
    apply_masks(module, masks_of(module, names, 0.5))
    assert sparsity(module, CELL.network.weights) == pytest.approx(0.5, abs=1e-4)
    shape = geometry(CELL.network, 32)
    weights = sum(layer.weights for layer in shape.layers)
    live = sum(layer.live_weights for layer in shape.layers)
    assert live < weights / 2
    for layer in CELL.network.convolutions:
        weight = module.get_parameter(f"{layer.name}.weight").data
        if shape.layer(layer.name).live_weights * 9 == weight.numel():
            weight[:, :, 1, 1] = 1.0  # the one live tap of a padded 3×3 kernel on a 1×1 map
    assert live_sparsity(module, CELL.network, 32) < sparsity(module, CELL.network.weights)


def test_pruned_weights_stay_exactly_zero_while_the_others_train():
    module = initial_module(CELL, "cpu")
    names = CELL.network.weights
    masks = masks_of(module, names, 0.8)
    apply_masks(module, masks)
    before = {name: module.get_parameter(name).clone() for name in names}
    hold_masks(module, masks)
    list(trained(PROTOCOL, module)[2])
    for name in names:
        after = module.get_parameter(name)
        assert bool((after[~masks[name]] == 0).all())
        assert not torch.equal(after, before[name])


def test_frozen_batch_norms_keep_their_statistics():
    module = initial_module(CELL, "cpu")
    norms = [part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    weight = module.get_parameter("block4_conv1.weight").clone()
    list(trained(PROTOCOL, module, enter_training=train_with_frozen_batch_norms)[2])
    assert all(torch.equal(norm.running_mean, b) for norm, b in zip(norms, before, strict=True))
    assert not torch.equal(module.get_parameter("block4_conv1.weight"), weight)


def test_bfloat16_trains_float32_weights_to_about_the_same_loss():
    losses = {}
    for precision in ("float32", "bfloat16"):
        module, _, epochs = trained(PROTOCOL.model_copy(update={"precision": precision}))
        losses[precision] = next(epochs).train_loss
        assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)


def test_precision_is_chosen_by_the_device():
    assert autocast_dtype(PROTOCOL, "cuda") is torch.bfloat16
    assert autocast_dtype(PROTOCOL, "cpu") is torch.float32


def test_the_memory_layout_changes_speed_and_nothing_else():
    losses = []
    for channels_last in (True, False):
        protocol = PROTOCOL.model_copy(update={"channels_last": channels_last})
        losses.append(next(trained(protocol)[2]).train_loss)  # rounding grows from epoch to epoch
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_an_epoch_is_that_of_a_loop_anyone_would_write():
    # 78.6 % of this network's taps only meet padding: rfray leaves them out, this loop does not.
    module, _, epochs = trained(PROTOCOL)
    losses = next(epochs)
    plain = initial_module(CELL, "cpu")
    optimizer = optimizer_for(plain, PROTOCOL)
    optimizer.param_groups[0]["lr"] = PROTOCOL.learning_rate
    split, facts = resident("digits", "cpu").train, resident("digits", "cpu").facts
    seed = stream_seed(CELL.seed, "epoch", 1)
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:80]
    total = 0.0
    plain.train()
    for batch in order.split(PROTOCOL.batch_size):
        loss = torch.nn.functional.cross_entropy(
            plain(normalised(split.images[batch], facts)), split.labels[batch]
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), PROTOCOL.gradient_clip)
        optimizer.step()
        total += loss.item() * len(batch)
    assert losses.train_loss == pytest.approx(total / len(order), rel=1e-3)
    for ours, theirs in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-4)


def test_augmentation_is_drawn_from_seed_and_epoch_alone():
    losses = {}
    for augmentation in ("none", "crop_flip", "resized_crop_flip"):
        protocol = PROTOCOL.model_copy(update={"augmentation": augmentation})
        first = [epoch.train_loss for epoch in trained(protocol)[2]]
        assert first == [epoch.train_loss for epoch in trained(protocol)[2]]
        losses[augmentation] = first[0]
    assert len(set(losses.values())) == 3
    plain = next(trained(PROTOCOL)[2]).train_loss
    assert plain == losses["none"], "the digits are not augmented unless asked"
