"""Pictures of more than 8 bits a channel, and values whose range nobody knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rfray.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

# TIFF 6.0, by the numbers of its tags.
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC_INTERPRETATION = 262
_SAMPLE_FORMAT = 339
_WHITE_IS_ZERO = 0
_SIGNED = 2

_CONVERT = (
    "scale them yourself, as in Image.fromarray((255 * (a - low) / (high - low)).clip(0, 255)"
    ".round().astype('uint8')).save('new.png')"
)


def more_than_8_bits(picture: Image.Image) -> bool:
    """Whether a channel is stored in more than 8 bits, although Pillow may give 8 of them."""
    for tile in getattr(picture, "tile", ()):
        if tile.codec_name.startswith("ppm"):  # its arguments end in the value of white
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
        return 65535  # what Pillow scales a pixmap's own white to
    if picture.mode in ("I", "F") or _SIGNED in _tag(picture, _SAMPLE_FORMAT):
        raise UserError(
            f"its pixels are {_kind(picture)}, and nothing says which value is black and which "
            "white",
            where=name,
            do=_CONVERT,
        )
    return None


def white_is_zero(picture: Image.Image) -> bool:
    """Whether a TIFF counts from white to black; Pillow minds it up to 8 bits only."""
    return _WHITE_IS_ZERO in _tag(picture, _PHOTOMETRIC_INTERPRETATION)


def grey_values(picture: Image.Image) -> NDArray[np.uint32]:
    """The values of a grey picture of more than 8 bits as they are stored: (height, width)."""
    import numpy as np

    return np.asarray(picture).astype(np.uint32)


def scaled_to_8_bits(values: NDArray[np.uint32], white: int) -> NDArray[np.uint8]:
    """Values of 0 to `white` scaled to 0 to 255 and rounded: for 16 bits, value / 257."""
    import numpy as np

    return ((values * 255 + white // 2) // white).astype(np.uint8)


def _kind(picture: Image.Image) -> str:
    if picture.mode == "F":
        return "floating-point numbers"
    (bits, *_) = _tag(picture, _BITS_PER_SAMPLE) or (32,)
    signed = "signed " if _SIGNED in _tag(picture, _SAMPLE_FORMAT) else ""
    return f"{signed}integers of {bits} bits"


def _tag(picture: Image.Image, number: int) -> tuple[int, ...]:
    """The values of a TIFF's tag; none where it has no such tag, or is none."""
    value = getattr(picture, "tag_v2", {}).get(number, ())
    return value if isinstance(value, tuple) else (value,)
