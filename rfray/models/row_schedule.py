"""In which order the rows of a network's maps are computed, so that few of them are alive at once.

A row of a convolution's output needs only a few rows of its input. So the image is taken from top
to bottom in strips; each layer computes the rows for which its input suffices, and rows that no
layer will read again are dropped. No row is computed twice. Where the strip is the whole image this
is the ordinary forward pass, layer by layer; a network with an operation that cannot work by rows
(`Network.by_rows`) has no other. All here is arithmetic over the description of the
network; `rfray.models.row_pass` computes by it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rfray.models.geometry import geometry
from rfray.models.network import INPUT, Layer, Network
from rfray.models.operations import GlobalAveragePool


@dataclass(frozen=True)
class RowStep:
    """One layer reads some consecutive rows of its inputs and computes rows of its own map.

    Attributes:
        layer: The layer.
        first: Its first row computed by this step.
        last: Behind its last row computed by this step. A global pool, whose one row needs all rows
            of its input, takes them in by steps that compute no row before the one that does.
        start: First row read of each input.
        stop: Behind the last row read of each input.
        above: Rows of padding above row `start`, which is 0 if there are any.
        below: Rows of padding below row `stop`.
        keep: For each input, its first row that some layer still has to read after this step.
    """

    layer: Layer
    first: int
    last: int
    start: int
    stop: int
    above: int
    below: int
    keep: Mapping[str, int]


@dataclass(frozen=True)
class _Reader:
    """Output row i reads the input's rows i·stride - padding to i·stride - padding + span - 1.

    Of a global pool, an output row stands for one row taken in.
    """

    layer: Layer
    span: int
    stride: int
    padding: int
    rows: int
    input_rows: int

    def computable(self, available: int) -> int:
        """How many of its rows follow from the first so many rows of its input."""
        if available == self.input_rows:
            return self.rows
        return max(0, (available + self.padding - self.span) // self.stride + 1)

    def next_read(self, done: int) -> int:
        """The first input row that it reads after its first `done` rows; all rows if none."""
        if done == self.rows:
            return self.input_rows
        return min(max(done * self.stride - self.padding, 0), self.input_rows)

    def written(self, done: int) -> int:
        """Rows of its map after its first `done` rows."""
        if isinstance(self.layer.operation, GlobalAveragePool):
            return done // self.rows
        return done


def row_steps(network: Network, image_size: int, strip: int) -> Iterator[RowStep]:
    """The steps of one forward pass over square images that arrive in strips of rows.

    Args:
        network: What is computed.
        image_size: Height of the images in pixels.
        strip: Rows of the image that arrive at a time, `shortest_strip` to `image_size`.

    Raises:
        ValueError: `strip` is out of range.
        UserError: A map collapses to nothing.
    """
    shortest = shortest_strip(network, image_size)
    if not shortest <= strip <= image_size:
        raise ValueError(f"a strip has {shortest} to {image_size} rows, not {strip}")
    heights = map_heights(network, image_size)
    if network.by_rows:
        yield from _steps_by_rows(network, image_size, strip, heights)
    else:
        yield from _steps_by_layers(network, heights)


def shortest_strip(network: Network, image_size: int) -> int:
    """The fewest rows of the image that may arrive at a time: all, where not all works by rows."""
    return 1 if network.by_rows else image_size


def _steps_by_layers(network: Network, heights: Mapping[str, int]) -> Iterator[RowStep]:
    last_reader = {source: layer.name for layer in network for source in layer.inputs}
    for layer in network:
        yield RowStep(
            layer,
            first=0,
            last=heights[layer.name],
            start=0,
            stop=max(heights[source] for source in layer.inputs),
            above=0,
            below=0,
            keep={
                source: heights[source] if last_reader[source] == layer.name else 0
                for source in layer.inputs
            },
        )


def _steps_by_rows(
    network: Network, image_size: int, strip: int, heights: Mapping[str, int]
) -> Iterator[RowStep]:
    readers = {layer.name: _reader(layer, heights) for layer in network}
    reading: dict[str, list[str]] = {name: [] for name in heights}
    for layer in network:
        for source in layer.inputs:
            reading[source].append(layer.name)
    done = dict.fromkeys(readers, 0)
    written = dict.fromkeys(heights, 0)
    # Not until the output is done: a pool may leave the last row of its input unread.
    while any(done[name] < reader.rows for name, reader in readers.items()):
        written[INPUT] = min(written[INPUT] + strip, image_size)
        for name, reader in readers.items():
            first = done[name]
            available = min(written[source] for source in reader.layer.inputs)
            # Below the last rows of a map lies padding alone: all layers have rows to catch up on
            # at once, and would hold them all at once.
            most = first + math.ceil(reader.rows * strip / image_size)
            last = min(reader.computable(available), most)
            if last == first:
                continue
            done[name], written[name] = last, reader.written(last)
            start = first * reader.stride - reader.padding
            stop = (last - 1) * reader.stride - reader.padding + reader.span
            yield RowStep(
                reader.layer,
                first=reader.written(first),
                last=reader.written(last),
                start=max(start, 0),
                stop=min(stop, reader.input_rows),
                above=max(-start, 0),
                below=max(stop - reader.input_rows, 0),
                keep={
                    source: min(readers[other].next_read(done[other]) for other in reading[source])
                    for source in reader.layer.inputs
                },
            )


def map_heights(network: Network, image_size: int) -> dict[str, int]:
    """Rows of the image and of each layer's map, by name; 1 behind the global pool."""
    heights = {layer.name: layer.shape.height for layer in geometry(network, image_size).layers}
    return {INPUT: image_size, **heights}


def peak_numbers(network: Network, image_size: int, strip: int) -> int:
    """The most numbers of maps alive at once for each image, when it arrives in such strips.

    Counts the rows that wait for a reader and those that a step writes; not the image itself, which
    is there anyway.
    """
    row_numbers = _row_numbers(network, image_size)
    kept = dict.fromkeys(row_numbers, 0)
    written = dict.fromkeys(row_numbers, 0)
    alive = peak = 0
    for step in row_steps(network, image_size, strip):
        name = step.layer.name
        alive += (step.last - written[name]) * row_numbers[name]
        written[name] = step.last
        peak = max(peak, alive)
        for source, row in step.keep.items():
            dropped = min(row, written[source]) - kept[source]
            alive -= dropped * row_numbers[source]
            kept[source] += dropped
    return peak


def tallest_strip(network: Network, image_size: int, numbers: int) -> int:
    """The largest of the image's height, its half, quarter … 1 whose peak is within `numbers`.

    The shortest that there is if that needs more, too.
    """
    strip, shortest = image_size, shortest_strip(network, image_size)
    while strip > shortest and peak_numbers(network, image_size, strip) > numbers:
        strip = (strip + 1) // 2
    return strip


def _reader(layer: Layer, heights: Mapping[str, int]) -> _Reader:
    rows, input_rows = heights[layer.name], heights[layer.inputs[0]]
    if isinstance(layer.operation, GlobalAveragePool):
        return _Reader(layer, 1, 1, 0, input_rows, input_rows)
    reach = layer.operation.reach(0, input_rows)
    return _Reader(layer, reach.span, reach.stride, reach.padding, rows, input_rows)


def _row_numbers(network: Network, image_size: int) -> dict[str, int]:
    """Numbers in one row of each map, channels times width; 0 for the image."""
    shapes = {layer.name: layer.shape for layer in geometry(network, image_size).layers}
    return {INPUT: 0, **{name: shape.channels * shape.width for name, shape in shapes.items()}}
