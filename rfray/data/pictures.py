"""Picture files as arrays: the pixels that a viewer shows, or an error."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rfray.data import unusual_pixels
from rfray.data.treatment import Treatment
from rfray.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True)
class Shown:
    """A picture as a viewer shows it.

    Attributes:
        image: In red, green and blue.
        treatments: What was done to it.
        manner: How its pixels differ from Pillow's plain conversion to red, green and blue. It
            enters the fingerprint, together with the bytes of the file; empty for most pictures.
    """

    image: Image.Image
    treatments: frozenset[Treatment] = frozenset()
    manner: str = ""


@contextmanager
def no_warnings() -> Iterator[None]:
    """Hide Pillow's warnings; to be used in the main thread, not in the threads that decode."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        yield


def shown(content: bytes, name: str, background: str | None = None) -> Shown:
    """A picture file as a viewer shows it: its first frame, upright, opaque, in 8 bits a channel.

    Grey becomes three equal channels. Grey of more than 8 bits is scaled and rounded. Of 16-bit
    colours only the high byte is used: Pillow gives no more. No colour profile is applied.

    Args:
        content: The file.
        name: Its name in messages.
        background: The background colour if it has transparent parts; None refuses it then.

    Raises:
        UserError: It is not a picture, is truncated, has more pixels than Pillow reads or values of
            an unknown range, or has transparent parts and there is no background.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as picture:
            return _shown(picture, content, name, background)
    except (UserError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(
            f"the picture has more than {most / 1e6:.0f} megapixels", where=name, do="scale it down"
        ) from error
    except Exception as error:  # each format has its own errors; none is dropped
        raise UserError("truncated, or not a picture", where=name, do="replace it") from error


def _shown(picture: Image.Image, content: bytes, name: str, background: str | None) -> Shown:
    treatments, manner = _seen_before_loading(picture), []
    white = unusual_pixels.white_of_grey(picture, name)
    picture.load()
    if white is None:
        image, alpha = unusual_pixels.parted(picture, content)
    else:
        image, alpha = unusual_pixels.from_deep_grey(picture, white)
        treatments.add(Treatment.SCALED)
        manner.append("scaled to 8 bits")
    if alpha is not None and alpha.getextrema()[0] != 255:
        image = unusual_pixels.laid_on(background, image, alpha, name)
        treatments.add(Treatment.LAID)
        manner.append(f"laid on {background}")
    orientation = _orientation(picture)
    if orientation is not None:
        image = _turned(image, orientation)
        treatments.add(Treatment.TURNED)
        manner.append("turned")
    return Shown(image, frozenset(treatments), ", ".join(manner))


def _seen_before_loading(picture: Image.Image) -> set[Treatment]:
    facts = {
        Treatment.FIRST_FRAME: getattr(picture, "n_frames", 1) > 1,
        Treatment.SCALED: unusual_pixels.more_than_8_bits(picture),
        Treatment.CMYK: picture.mode == "CMYK",
        Treatment.PROFILE: unusual_pixels.changes_colours(picture),
        # Pillow itself turns a TIFF when it loads it, and does not record this.
        Treatment.TURNED: picture.format == "TIFF" and _orientation(picture) is not None,
    }
    return {treatment for treatment, holds in facts.items() if holds}


def _orientation(picture: Image.Image) -> int | None:
    """Its EXIF orientation, 2 to 8; None if it has none, or EXIF that no viewer can read."""
    from PIL import ExifTags

    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error):
        return None
    return orientation if orientation in range(2, 9) else None


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    from PIL import ExifTags, ImageOps

    image.info = {}  # without the rest of its EXIF, which Pillow might fail to write
    image.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(image)


def fitted(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    """The centre of a picture whose shorter side is scaled to `size`: uint8 (size, size, 3).

    Bilinear, with antialiasing if it becomes smaller, as torchvision's Resize and CenterCrop do,
    but in one step (Pillow's `ImageOps.fit`). A picture of that size is not changed.
    """
    import numpy as np
    from PIL import Image, ImageOps

    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), method=Image.Resampling.BILINEAR)
    return np.asarray(picture)


def other_size(where: str, width: int, height: int, size: int, do: str = "") -> UserError:
    """The error for a picture that is not `size` × `size` pixels; `do` is what to do about it."""
    return UserError(
        f"the picture is {width}×{height} pixels, expected {size}×{size}", where=where, do=do
    )
