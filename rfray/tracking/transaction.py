"""Many requests to a database as one transaction: it waits for its disk once.

MLflow's store of a database opens a session a request and several within one, each with a commit of
its own; on a disk that is most of what a run costs. Within `one_transaction` those sessions work on
one connection, where a commit of theirs ends a savepoint and no more (SQLAlchemy's recipe for
joining a session into an external transaction). What is written, and how, stays MLflow's.

A store behind a server has requests alone, and is asked as ever.
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
"""How long a locked sqlite file is waited for, as MLflow waits."""


def has_transactions(client: MlflowClient) -> bool:
    """Whether a client asks a database itself, and no server in front of one."""
    return database_store(client) is not None


@contextmanager
def one_transaction(client: MlflowClient) -> Iterator[None]:
    """Write all that the client is asked within, in this thread, or nothing of it.

    Raises:
        MlflowException: TEMPORARILY_UNAVAILABLE if the database is locked or its disk is full; what
            a request raised.
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
        said = _said_first(error)
        if said is None:
            raise
        raise MlflowException(said, error_code=TEMPORARILY_UNAVAILABLE) from error


def _said_first(error: BaseException | None) -> str | None:
    """What the database said first, if it was the database that said it.

    On a full disk sqlite takes the whole transaction back, and what is said last is that there is
    no savepoint to go back to.
    """
    from sqlalchemy.exc import OperationalError

    said = None
    while error is not None:
        said = str(error) if isinstance(error, OperationalError) else said
        error = error.__context__
    return said


def database_store(client: MlflowClient) -> Any:
    """The store of a database that a client asks; None if it asks something else."""
    # The same store that the client asks; it is not in its face.
    store = client._tracking_client.store
    return store if hasattr(store, _MAKER) else None


def _let_join(store: Any) -> None:
    """Have a store's sessions join the transaction of their thread, where there is one."""
    own = getattr(store, _MAKER)
    if getattr(own, "joins", False):
        return

    def sessions(*arguments: Any, **options: Any) -> AbstractContextManager[Session]:
        joined = _ON_A_CONNECTION.get()
        return (joined or own)(*arguments, **options)

    sessions.joins = True  # type: ignore[attr-defined]
    setattr(store, _MAKER, sessions)


def _begin(connection: Connection) -> None:
    """Begin a transaction that will write; on sqlite the lock is waited for here and nowhere else.

    Python's sqlite3 would begin one at the first row that is written, behind the first savepoint.
    """
    if connection.dialect.name != _SQLITE:
        return
    connection.exec_driver_sql("PRAGMA foreign_keys = ON")
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {LOCK_MILLISECONDS}")
    connection.exec_driver_sql("PRAGMA case_sensitive_like = true")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _sessions_on(connection: Connection) -> Sessions:
    """What MLflow makes its sessions with, on one connection; its pragmas are set there."""
    from mlflow.store.db.utils import _get_managed_session_maker
    from sqlalchemy.orm import sessionmaker

    joining = sessionmaker(bind=connection, join_transaction_mode="create_savepoint")
    made: Sessions = _get_managed_session_maker(joining, "")
    return made
