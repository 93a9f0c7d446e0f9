"""Pictures of more than 8 bits per channel, and pictures with values of an unknown range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rfray.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

# TIFF 6.0, by the numbers of its tags.
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_SAMPLE_FORMAT = 339
_WHITE_IS_ZERO = 0
_SIGNED = 2

_CONVERT = (
    "scale them yourself, as in Image.fromarray((255 * (a - low) / (high - low)).clip(0, 255)"
    ".round().astype('uint8')).save('new.png')"
)


def more_than_8_bits(picture: Image.Image) -> bool:
    """Whether a channel is stored with more than 8 bits; Pillow may give only 8 of them."""
    for tile in getattr(picture, "tile", ()):
        if tile.codec_name.startswith("ppm"):  # its last argument is the value of white
            return isinstance(tile.args, tuple) and tile.args[-1] > 255
        return ";16" in str(tile.args) or ";12" in str(tile.args)
    return False


def white_of_grey(picture: Image.Image, name: str) -> int | None:
    """The value of white in a grey picture of more than 8 bits; None for any other picture.

    Raises:
        UserError: The values are signed, floating-point, or integers of 32 bits.
    """
    if picture.mode.startswith("I;16"):
        bits = _tag(picture, _BITS_PER_SAMPLE) or (16,)
        return int(2 ** bits[0] - 1)
    if picture.mode == "I" and picture.format in ("PPM", "PNG"):
        return 65535  # Pillow scales a pixmap to this value of white
    if picture.mode in ("I", "F") or _SIGNED in _tag(picture, _SAMPLE_FORMAT):
        raise UserError(
            f"its pixels are {_kind(picture)}, and it is not known which value is black and which "
            "is white",
            where=name,
            do=_CONVERT,
        )
    return None


def from_deep_grey(picture: Image.Image, white: int) -> tuple[Image.Image, Image.Image | None]:
    """A grey picture of more than 8 bits in red, green and blue, and its opacity if it has any.

    Values from 0 to `white` are scaled to 0 to 255 and rounded: for 16 bits, value / 257. In a TIFF
    white may be 0; Pillow corrects this for up to 8 bits only.
    """
    import numpy as np
    from PIL import Image

    values = np.asarray(picture).astype(np.uint32)
    upwards = white - values if _WHITE_IS_ZERO in _tag(picture, _PHOTOMETRIC) else values
    scaled = ((upwards * 255 + white // 2) // white).astype(np.uint8)
    image = Image.fromarray(scaled).convert("RGB")
    transparent = picture.info.get("transparency")
    if transparent is None:
        return image, None
    return image, Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))


def _kind(picture: Image.Image) -> str:
    if picture.mode == "F":
        return "floating-point numbers"
    (bits, *_) = _tag(picture, _BITS_PER_SAMPLE) or (32,)
    signed = "signed " if _SIGNED in _tag(picture, _SAMPLE_FORMAT) else ""
    return f"{signed}integers of {bits} bits"


def _tag(picture: Image.Image, number: int) -> tuple[int, ...]:
    """The values of a TIFF's tag; empty if there is no such tag, or for another format."""
    value = getattr(picture, "tag_v2", {}).get(number, ())
    return value if isinstance(value, tuple) else (value,)
