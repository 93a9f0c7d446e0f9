"""How many images are held out for validation, as a study gives it."""

Amount = int | float
"""A number of images, or a share of the training images, above 0 and below 1."""


def amount_problem(value: object) -> str | None:
    """Why a value is not an `Amount`, and what to write; None if it is one."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return None
    if isinstance(value, float) and 0 < value < 1:
        return None
    return (
        f"{value!r} is neither a number of images nor a share of them "
        "(write one such as 5000, or one above 0 and below 1 such as 0.1)"
    )


def images_held_out(amount: Amount, train_images: int) -> int:
    """The number of images that an amount means; a share of `train_images` is rounded."""
    return amount if isinstance(amount, int) else round(amount * train_images)
