"""The tracking store: whether it answers, and what its errors mean."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

import requests
import tenacity
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.tracking.request_header import registry
from mlflow.tracking.request_header.abstract_request_header_provider import RequestHeaderProvider

from rfray.errors import UserError, first_line
from rfray.terminal import chatter

_SERVER_ERROR = 500
_WAIT_LONGER_STATUS = (408, 429)
_WORKER_PATIENCE_SECONDS = 3600
_LONGEST_PAUSE_SECONDS = 5

T = TypeVar("T")


def make_database(path: Path) -> None:
    """Create the sqlite store at `path` atomically, if there is none.

    MLflow's own first start is not atomic: two processes at once, or one that is killed, leave
    tables that no later start can use. So it starts with a file of another name.

    Raises:
        UserError: There is no room for it, or it cannot be written.
    """
    with FileLock(path.with_suffix(".lock")):
        if path.is_file():
            return
        from sqlalchemy.exc import SQLAlchemyError

        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        _quiet()
        try:
            MlflowClient(tracking_uri=f"sqlite:///{partial}").search_experiments(max_results=1)
            partial.replace(path)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise UserError(
                f"the database cannot be created: {first_line(error)}",
                where=str(path),
                do="make room, or choose another folder with --storage DIR",
            ) from error


def check_store(tracking_uri: str) -> None:
    """UserError if the tracking store does not answer."""
    _quiet()
    try:
        MlflowClient(tracking_uri=tracking_uri).search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        raise _store_error(error, tracking_uri) from error


@contextmanager
def store_answers(tracking_uri: str) -> Iterator[None]:
    """Turn errors of the tracking store into a UserError."""
    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        raise _store_error(error, tracking_uri) from error


@contextmanager
def store_written(tracking_uri: str) -> Iterator[None]:
    """Turn errors of writing to a store into a UserError: read-only, full, no answer."""
    try:
        yield
    except (MlflowException, requests.RequestException, OSError) as error:
        raise UserError(
            f"it could not be written: {first_line(error)}",
            where=tracking_uri,
            do="repair that, then give the same command again: it continues where it stopped",
        ) from error


def _store_error(error: Exception, tracking_uri: str) -> UserError:
    if is_outage(error) or not isinstance(error, MlflowException):
        what, do = "does not answer", "check the address, and that the server runs"
    else:
        what, do = "refuses a request", "repair what it says, then give the same command again"
    return UserError(f"the tracking store {what}: {first_line(error)}", where=tracking_uri, do=do)


def is_outage(error: BaseException) -> bool:
    """Whether the call may succeed later.

    True for: no answer, an answer too late, an internal error of the server, a locked database, a
    full disk. False for a request that the store refuses.
    """
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
    elif isinstance(error, requests.RequestException):
        if error.response is None:
            return True
        status = error.response.status_code
    else:
        return False
    return bool(status >= _SERVER_ERROR or status in _WAIT_LONGER_STATUS)


def through_outages(call: Callable[[], T]) -> T:
    """Call for a worker's transfer of artifacts; tried again for an hour during an outage."""
    leave_retries_to_rfray()
    patient = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_outage),
        wait=tenacity.wait_random_exponential(max=_LONGEST_PAUSE_SECONDS),
        stop=tenacity.stop_after_delay(_WORKER_PATIENCE_SECONDS),
        reraise=True,
    )
    return patient(call)


def leave_retries_to_rfray() -> None:
    """Turn off MLflow's own retries: they block for minutes, and may create a run twice."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def spare_the_delay(tracking_uri: str) -> None:
    """Have each request to a server without TLS make a connection of its own.

    MLflow's server sends an answer in two parts, and the second only when the client's computer has
    acknowledged the first: its uvicorn 0.54 leaves Nagle's algorithm on. On a connection that is
    used again, Linux delays that acknowledgement by 40 ms. A new connection costs one round trip;
    with TLS it would cost several.
    """
    if tracking_uri.startswith("http://"):
        _spare_the_delay()


@cache
def _spare_the_delay() -> None:
    # MLflow's public way to register one is an entry point, which every program would load. Where a
    # release has another way, requests are as slow as without this.
    known = getattr(registry, "_request_header_provider_registry", None)
    if known is not None:
        known.register(_OneRequestAConnection)


class _OneRequestAConnection(RequestHeaderProvider):  # type: ignore[misc]
    def in_context(self) -> bool:
        return True

    def request_headers(self) -> dict[str, str]:
        return {"Connection": "close"}


def _quiet() -> None:
    """Hide messages of MLflow and alembic, and turn off MLflow's telemetry."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.getLogger("alembic").setLevel(chatter.level(logging.WARNING))
    logging.getLogger("mlflow").setLevel(chatter.level(logging.ERROR))
    # The caller waits for a locked database, and reports it.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
