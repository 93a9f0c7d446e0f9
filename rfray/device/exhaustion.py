"""Whether a stage failed because the card's memory was used up."""

import sys

_SAID_BY_LIBRARIES = (
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDA out of memory",
)


def exhausted(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, says that a card is out of memory.

    PyTorch has a class for errors of its own allocator. Errors of cuBLAS and cuDNN, which also
    allocate memory, are a RuntimeError with their status. Errors of main memory do not count: the
    stage cannot get more of it on the same machine.
    """
    link: BaseException | None = error
    while link is not None:
        if _is_one(link):
            return True
        link = link.__cause__ or link.__context__
    return False


def _is_one(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # without torch the stage has not used a card
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(s in str(error) for s in _SAID_BY_LIBRARIES)
