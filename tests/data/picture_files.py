"""Picture files of all the kinds that people have, as bytes."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from layouts import pixels
from PIL import ExifTags, Image, ImageCms

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)
"""Every value of 16 bits once."""


def saved(picture, ending: str, **options) -> bytes:
    file = io.BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(file, ending, **options)
    return file.getvalue()


def tiff(array, *, bits=None, sample_format=1, photometric=1, order="<") -> bytes:
    """An uncompressed TIFF of one channel, by TIFF 6.0; `array` is its bytes, or its values."""
    height, width = array.shape
    bits = bits or array.dtype.itemsize * 8
    data = packed_12_bits(array) if bits == 12 else array.astype(array.dtype.newbyteorder(order))
    data = data if isinstance(data, bytes) else data.tobytes()
    short, long = 3, 4
    tags = [
        (256, long, width), (257, long, height), (258, short, bits), (259, short, 1),
        (262, short, photometric), (273, long, 8), (277, short, 1), (278, long, height),
        (279, long, len(data)), (339, short, sample_format),
    ]  # fmt: skip
    directory = struct.pack(f"{order}H", len(tags))
    for tag, kind, value in tags:
        packed = struct.pack(
            f"{order}HH" if kind == short else f"{order}L", *short_pair(kind, value)
        )
        directory += struct.pack(f"{order}HHL", tag, kind, 1) + packed
    magic = b"II*\0" if order == "<" else b"MM\0*"
    header = magic + struct.pack(f"{order}L", 8 + len(data))
    return header + data + directory + b"\0\0\0\0"


def short_pair(kind: int, value: int) -> tuple[int, ...]:
    return (value, 0) if kind == 3 else (value,)


def packed_12_bits(array) -> bytes:
    """Two values in three bytes, the higher bits first."""
    first, second = array.reshape(-1, 2).astype(int).T
    three = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
    return np.stack(three, axis=1).astype(np.uint8).tobytes()


def png(samples: bytes, width: int, height: int, bits: int, colour_type: int, **chunks) -> bytes:
    """A PNG of any depth, by its specification; `samples` are its packed rows."""
    row = len(samples) // height
    rows = b"".join(b"\0" + samples[n * row : (n + 1) * row] for n in range(height))
    header = struct.pack(">LLBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *((k.encode(), v) for k, v in chunks.items())]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(content))
        + kind
        + content
        + struct.pack(">L", zlib.crc32(kind + content))
        for kind, content in parts
    )


def pgm_16(array, white=65535) -> bytes:
    height, width = array.shape
    return f"P5 {width} {height} {white}\n".encode() + array.astype(">u2").tobytes()


def oriented(array, orientation: int, ending: str, **options) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return saved(array, ending, exif=exif, **options)


def several_frames(ending: str, size=20) -> bytes:
    """Three frames, the first of which is `pixels(size, size, 3, seed=1)`."""
    first, *others = (Image.fromarray(pixels(size, size, 3, seed=n)) for n in (1, 2, 3))
    options = {"lossless": True} if ending == "WEBP" else {}
    return saved(first, ending, save_all=True, append_images=others, **options)


def see_through(size=20) -> Image.Image:
    """Half opaque, half not at all; red, green and blue are `pixels(size, size, 3)`."""
    alpha = np.full((size, size, 1), 255, dtype=np.uint8)
    alpha[: size // 2] = 0
    return Image.fromarray(np.concatenate([pixels(size, size, 3), alpha], axis=2))


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def other_profile() -> bytes:
    """sRGB with red and green swapped."""
    return (
        srgb_profile().replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    )
