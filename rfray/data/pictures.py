"""Picture files as arrays."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rfray.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def decode(content: bytes, name: str) -> NDArray[np.uint8]:
    """A picture file as uint8 (height, width, 3); grey becomes three equal channels.

    Args:
        content: The file.
        name: What to call it in a message.

    Raises:
        UserError: It is no picture, or a truncated one.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError("truncated, or no picture", where=name, do="replace it") from error


def decode_square(content: bytes, name: str, size: int) -> NDArray[np.uint8]:
    """As `decode`, of `size` × `size` pixels.

    Raises:
        UserError: See `decode`; or the picture has another size.
    """
    pixels = decode(content, name)
    height, width = pixels.shape[:2]
    if (height, width) != (size, size):
        raise UserError(
            f"the picture is {width}×{height} pixels, expected {size}×{size}", where=name
        )
    return pixels
