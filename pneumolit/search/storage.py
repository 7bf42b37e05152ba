"""Where a study is kept: a journal file that many processes write, or a database by its address."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

# What SQLite, PostgreSQL and MySQL say where two processes make the same tables, and put in the same first row.
_MADE_BY_ANOTHER = ("already exists", "unique constraint", "duplicate", "database is locked", "no such table")
_TRIES, _SECONDS_BETWEEN = 10, 0.5


def open_storage(address: str | None, journal: Path) -> BaseStorage:
    """Open a storage, which is made where there is none yet.

    Args:
        address: an Optuna storage URL; None: the journal file.
        journal: path of the journal file.

    Raises:
        ValueError: the address leads nowhere, or what it needs is not installed.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if address is None:
        journal.parent.mkdir(parents=True, exist_ok=True)
        backend = JournalFileBackend(str(journal), lock_obj=_HeldJournal(journal))  # type: ignore[arg-type]
        try:
            return JournalStorage(backend)  # which reads it
        except (AssertionError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(
                f"{journal} is no journal of a search ({type(error).__name__}); put the search's own back, or give "
                "another name"
            ) from error
    try:
        return _open_database(address)
    except Exception as error:  # whatever a driver raises: of SQLAlchemy, of the database, of the import system
        raise ValueError(f"storage={hide_password(address)} cannot be opened: {first_line(error, address)}") from error


def _open_database(address: str) -> BaseStorage:
    """Open a database, whose tables another process may be making at this moment."""
    from optuna import storages
    from sqlalchemy.exc import DBAPIError

    for _ in range(_TRIES):
        try:
            return storages.get_storage(address)
        except DBAPIError as error:
            if not any(word in str(error).lower() for word in _MADE_BY_ANOTHER):
                raise
            time.sleep(_SECONDS_BETWEEN)
    return storages.get_storage(address)


class _HeldJournal:
    """The system's own lock: free again at once when a process is killed, where Optuna's are waited for 30 seconds.

    Has the two methods of Optuna's base class of such locks, which is no part of its public names.
    """

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self._lock = FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        """Wait for the file, and mend it."""
        self._lock.acquire()
        mend_last_line(self.journal)
        return True

    def release(self) -> None:
        """Let others write."""
        self._lock.release()


def mend_last_line(journal: Path) -> None:
    """Cut off half a line, which a process that was killed while it wrote, or a full disk, has left.

    The next line would be written behind it, and no process could read the file any more.
    """
    with journal.open("r+b") as handle:
        end = handle.seek(0, os.SEEK_END)
        if not end:
            return
        handle.seek(end - 1)
        if handle.read(1) == b"\n":
            return
        handle.seek(0)
        handle.truncate(handle.read().rfind(b"\n") + 1)


def hide_password(address: str) -> str:
    """An address as it may be shown.

    >>> hide_password("postgresql://ann:secret@host/studies")
    'postgresql://ann:***@host/studies'
    """
    return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", address)


def storage_errors() -> type[Exception]:
    """What Optuna raises when a database that was open does not answer."""
    from optuna.exceptions import StorageInternalError

    return StorageInternalError


def check_address(address: Any) -> None:
    """Refuse what is no address of a storage."""
    if address is not None and not (isinstance(address, str) and re.match(r"[a-z][\w+]*://", address)):
        shown = repr(hide_password(address)) if isinstance(address, str) else repr(address)
        raise ValueError(
            "storage must be null (a journal file in the search's folder) or an Optuna storage URL such as "
            f"postgresql://user@host/studies or sqlite:///studies.db, got {shown}"
        )


def first_line(error: BaseException, address: str) -> str:
    """What an error says in its first line, without the password of the address."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text.replace(address, hide_password(address))
