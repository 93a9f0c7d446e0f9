"""Many requests to a database as one transaction, which waits for the disk only once.

MLflow's database store opens one or more sessions for each request, each with its own commit. On a
disk these commits take most of the time of a run. Within `one_transaction` the sessions share one
connection, where their commits only end savepoints (SQLAlchemy's recipe for joining a session into
an external transaction). MLflow's code still writes everything.

A store on a server has no transactions; nothing changes for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    Sessions = Callable[..., AbstractContextManager[Session]]

_MAKER = "ManagedSessionMaker"
_ON_A_CONNECTION: ContextVar[Sessions | None] = ContextVar("sessions", default=None)
_SQLITE = "sqlite"

LOCK_MILLISECONDS = 20_000
"""How long to wait for a locked sqlite file, as MLflow does."""


def has_transactions(client: MlflowClient) -> bool:
    """Whether a client uses a database directly, and not through a server."""
    return database_store(client) is not None


@contextmanager
def one_transaction(client: MlflowClient) -> Iterator[None]:
    """Make one transaction of all requests of the client in this block and thread.

    Raises:
        MlflowException: TEMPORARILY_UNAVAILABLE if the database is locked or its disk is full;
            also the error of a request.
    """
    store = database_store(client)
    if store is None:
        yield
        return
    from sqlalchemy.exc import OperationalError

    _let_join(store)
    try:
        with store.engine.connect() as connection:
            _begin(connection)
            token = _ON_A_CONNECTION.set(_sessions_on(connection))
            try:
                yield
                connection.commit()
            finally:
                _ON_A_CONNECTION.reset(token)
    except (OperationalError, MlflowException) as error:
        first = _first_message(error)
        if first is None:
            raise
        raise MlflowException(first, error_code=TEMPORARILY_UNAVAILABLE) from error


def _first_message(error: BaseException | None) -> str | None:
    """The first error message of the database in a chain of errors; None if there is none.

    If the disk is full, sqlite rolls back the whole transaction, and the last error only says that
    a savepoint is missing.
    """
    from sqlalchemy.exc import OperationalError

    first = None
    while error is not None:
        first = str(error) if isinstance(error, OperationalError) else first
        error = error.__context__
    return first


def database_store(client: MlflowClient) -> Any:
    """The database store of a client; None if the client uses a server."""
    # The client has no public attribute for its store.
    store = client._tracking_client.store
    return store if hasattr(store, _MAKER) else None


def _let_join(store: Any) -> None:
    """Have a store's sessions join the transaction of their thread, if there is one."""
    own = getattr(store, _MAKER)
    if getattr(own, "joins", False):
        return

    def sessions(*arguments: Any, **options: Any) -> AbstractContextManager[Session]:
        joined = _ON_A_CONNECTION.get()
        return (joined or own)(*arguments, **options)

    sessions.joins = True  # type: ignore[attr-defined]
    setattr(store, _MAKER, sessions)


def _begin(connection: Connection) -> None:
    """Begin a transaction that writes. On sqlite this is the only place that waits for the lock.

    Python's sqlite3 would begin it only at the first write, after the first savepoint.
    """
    if connection.dialect.name != _SQLITE:
        return
    connection.exec_driver_sql("PRAGMA foreign_keys = ON")
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {LOCK_MILLISECONDS}")
    connection.exec_driver_sql("PRAGMA case_sensitive_like = true")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _sessions_on(connection: Connection) -> Sessions:
    """MLflow's factory of sessions, on one connection, where the pragmas are set already."""
    from mlflow.store.db.utils import _get_managed_session_maker
    from sqlalchemy.orm import sessionmaker

    joining = sessionmaker(bind=connection, join_transaction_mode="create_savepoint")
    made: Sessions = _get_managed_session_maker(joining, "")
    return made
