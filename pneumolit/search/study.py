"""A study that several processes and machines work on: who runs which trial, who has died, how many count."""

from __future__ import annotations

import contextlib
import platform
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

from pneumolit.rundir import TuneDir, fingerprint, is_locked
from pneumolit.search.storage import open_storage, storage_errors

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial, TrialState

DIED = "its process was killed or lost"
_NAMELESS_SECONDS = 10.0  # for a process to write down that a trial is its own, right after it has taken it
_BEAT_SECONDS = 60.0  # between two signs of life of a process whose folder others may not see
_SILENT_SECONDS = 600.0  # without one, after which such a process counts as dead
_MOST_TRIES = 3  # of one point whose process dies: it may be what kills it


class SharedStudy:
    """An Optuna study, and this process as one of its workers.

    Args:
        tune: folder of the search.
        address: of the storage; None: the journal file in the folder, and whoever works on the study sees the folder.
        mode: "min" or "max", for a study that does not exist yet.

    Raises:
        ValueError: the storage cannot be opened, or holds a study of that name with the other mode.
    """

    def __init__(self, tune: TuneDir, address: str | None, mode: str) -> None:
        self.tune, self.address = tune, address
        self.worker = f"{_machine()}-{uuid.uuid4().hex}"
        self._lock = FileLock(tune.worker_file(self.worker))
        tune.worker_file(self.worker).parent.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        self._nameless: dict[int, float] = {}  # number of a trial without an owner -> when it was first seen so
        self._beats: dict[int, tuple[Any, float]] = {}  # number -> last sign of life, when it was new
        self._own: set[int] = set()
        self._last_beat = time.monotonic()
        try:
            self.storage = open_storage(address, tune.journal_file)
            self.study = self._opened("minimize" if mode == "min" else "maximize")
        except BaseException:
            self.close()  # no worker is left behind that never was one
            raise

    def _opened(self, direction: Literal["minimize", "maximize"]) -> Study:
        import optuna

        with FileLock(self.tune.lock_file):  # two processes that begin together
            study = optuna.create_study(
                storage=self.storage, study_name=self.tune.path.name, direction=direction, load_if_exists=True
            )
        if study.direction.name.lower() != direction:
            raise ValueError(
                f"the study {self.tune.path.name} in this storage {study.direction.name.lower()}s, and this search "
                f"{direction}s; give another name"
            )
        return study

    def trials(self) -> list[FrozenTrial]:
        """All trials as they are now; to be read only."""
        return self.study.get_trials(deepcopy=False)

    def finished(self, trials: Sequence[FrozenTrial] | None = None) -> list[FrozenTrial]:
        """Trials that count: complete or pruned."""
        return [trial for trial in (self.trials() if trials is None else trials) if counts(trial)]

    def claim(self, total: int) -> Trial | None:
        """Take a trial, one that waits or a new one; None where those that count or may come to count are enough.

        Of processes that take one at the same time the last ones give theirs up. A trial that is kept has less than
        `total` others with smaller numbers that count or may come to count; so that with the largest number among those
        that count in the end has, too, and they are `total` at most.
        """
        trials = self.trials()
        if not any(_is_waiting(trial) for trial in trials) and _committed(trials) >= total:
            return None
        trial = self.study.ask()
        self._own.add(trial.number)
        if not self.note(trial.number, worker=self.worker):
            return None
        self.bury()  # so that all that still run may come to count
        if _committed(self.trials()[: trial.number]) >= total:
            self.end(trial.number, _states().FAIL, excess=True)
            return None
        return trial

    def rank(self, number: int) -> int:
        """Place of a trial among those that are no repetition of one that was cut off: what its draw follows from."""
        return sum("tries" not in trial.user_attrs for trial in self.trials()[:number])

    def end(self, number: int, state: TrialState, value: float | None = None, **attributes: Any) -> bool:
        """End a trial; whether it was this call that ended it."""
        self._own.discard(number)
        if not self.note(number, **attributes):
            return False
        try:
            self.study.tell(number, value, state=state)
        except (ValueError, _finished_error()):
            if self.trials()[number].state.is_finished():  # by another process, in this moment
                return False
            raise
        return True

    def again(self, number: int, *, tries: int = 0) -> None:
        """Let a point be tried once more: its run goes on from its checkpoint."""
        trial = self.trials()[number]
        fixed = trial.system_attrs.get("fixed_params", {})
        params = trial.params or fixed
        if params:
            self.study.enqueue_trial(params, user_attrs={"tries": tries})

    def bury(self) -> list[int]:
        """End the trials of dead processes and let their points be tried again; numbers of those trials."""
        buried = []
        for trial in self.trials():
            if trial.state != _states().RUNNING or not self._is_dead(trial):
                continue
            if self.end(trial.number, _states().FAIL, reason=DIED, cut_off=True):
                buried.append(trial.number)
                tries = int(trial.user_attrs.get("tries", 0)) + 1
                if tries < _MOST_TRIES:
                    self.again(trial.number, tries=tries)
        return buried

    def beat(self) -> None:
        """Give a sign of life, once a minute, where others may not see this process's lock."""
        if self.address is not None and time.monotonic() - self._last_beat > _BEAT_SECONDS:
            self._last_beat = time.monotonic()
            with contextlib.suppress(storage_errors()):  # a minute later it may answer again, and nothing runs by it
                for number in list(self._own):
                    self.note(number, beat=time.time())

    def close(self) -> None:
        """Stop being a worker."""
        self._lock.release()
        self.tune.worker_file(self.worker).unlink(missing_ok=True)

    def _is_dead(self, trial: FrozenTrial) -> bool:
        """Whether nobody works on a running trial any more."""
        owner, number, now = trial.user_attrs.get("worker"), trial.number, time.monotonic()
        if owner == self.worker:
            return False
        if owner is None:
            return now - self._nameless.setdefault(number, now) > _NAMELESS_SECONDS
        lock = self.tune.worker_file(owner)
        if self.address is None or (lock.exists() and owner.startswith(_machine())):
            return not is_locked(lock)
        beat = trial.user_attrs.get("beat")
        if number not in self._beats or self._beats[number][0] != beat:
            self._beats[number] = (beat, now)
        return now - self._beats[number][1] > _SILENT_SECONDS

    def note(self, number: int, **attributes: Any) -> bool:
        """Write attributes of a trial that runs; whether it does."""
        if self.trials()[number].state.is_finished():
            return False
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
        try:
            for key, value in attributes.items():
                self.storage.set_trial_user_attr(trial_id, key, value)
        except _finished_error():
            return False
        return True


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those that were asked for: complete or pruned."""
    return trial.state in (_states().COMPLETE, _states().PRUNED)


@contextlib.contextmanager
def shared_study(tune: TuneDir, address: str | None, mode: str) -> Iterator[SharedStudy]:
    """Work on a study; whatever happens inside, others see afterwards that this process no longer does."""
    study = SharedStudy(tune, address, mode)
    try:
        yield study
    finally:
        study.close()


def _committed(trials: Sequence[FrozenTrial]) -> int:
    """Trials that count, or may come to count."""
    return sum(counts(trial) or not trial.state.is_finished() for trial in trials)


def _machine() -> str:
    """This machine, without its name."""
    return fingerprint([platform.node()])[:8]


def _is_waiting(trial: FrozenTrial) -> bool:
    return bool(trial.state == _states().WAITING)


def _states() -> Any:
    from optuna.trial import TrialState

    return TrialState


def _finished_error() -> type[Exception]:
    from optuna.exceptions import UpdateFinishedTrialError

    return UpdateFinishedTrialError
