"""`spotkeeper.Run`: a training loop that continues where the last valid checkpoint left it."""

import os
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import datetime
from typing import Any, Final, Literal, NoReturn

from torch.utils.data import Dataset

from spotkeeper.contract.checkpoint_layout import DEFAULT_KEEP
from spotkeeper.contract.exit_codes import EXIT_YIELDED
from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.contract.metrics import CHECKPOINT_AGE
from spotkeeper.contract.outcome import COMPLETED, FENCED, REFUSED, STARTED, YIELDED
from spotkeeper.policy.checkpoint_interval import check_max_lost
from spotkeeper.policy.emergency_save import EmergencySave
from spotkeeper.policy.measured_saves import MeasuredSave
from spotkeeper.trainer import gradients, live_runs, optimization, rng
from spotkeeper.trainer.checkpoint import Checkpoint, Checkpoints, FencedError
from spotkeeper.trainer.engine import Engine, Progress, check_storable
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.goodput import Activity, Goodput
from spotkeeper.trainer.imds import Imds
from spotkeeper.trainer.loader import WHOLE, Collate, Loader
from spotkeeper.trainer.loader_choice import make_loader
from spotkeeper.trainer.mid_step import MidStepSaves
from spotkeeper.trainer.notice import LINGER_GRACE_SECONDS, Interruption, NoticeWatch
from spotkeeper.trainer.outcome_file import OutcomeFile
from spotkeeper.trainer.progress_bar import REFRESH_SECONDS, ProgressBar, open_progress_bar
from spotkeeper.trainer.rank_agreement import News
from spotkeeper.trainer.ranks import Ranks
from spotkeeper.trainer.restore import restored
from spotkeeper.trainer.run_settings import RunSettings, parse_duration
from spotkeeper.trainer.sample_order import OrderFunction, Weights
from spotkeeper.trainer.save_pace import SavePace
from spotkeeper.trainer.sharded_tensor import is_cut
from spotkeeper.trainer.stateful import Stateful, check_stateful, restore_objects
from spotkeeper.trainer.store import StoreRefusedError
from spotkeeper.trainer.store_address import open_store
from spotkeeper.trainer.writer_client import WriterSettings

Cause = Literal["periodic", "rebalance", "notice", "signal", "requested", "final"]

DEFAULT_MAX_LOST: Final = "15m"
URGENT_ATTEMPTS: Final = 3
FINAL_ATTEMPTS: Final = 10
RETRY_SECONDS: Final = 1.0

URGENCY: Final = ("fenced", "notice", "signal", "finish", "requested", "rebalance", "periodic")
"""Of news, by cause: where several processes have some at once, all act on the first of these."""


class Run:
    """One training run, whatever becomes of the machines under it.

        run = spotkeeper.Run(model=model, opt=opt, sched=sched)
        data = run.loader(dataset, batch_size=32, seed=0)
        for step, batch in run.steps(data, total=100_000):
            ...
            run.log(loss=loss.item())

    Making a `Run` restores the newest valid checkpoint into the objects, if there is one. Where checkpoints
    go, and under which name, is the environment's affair: `SPOTKEEPER_URI` (by default the folder
    `checkpoints`) and `SPOTKEEPER_RUN_ID` (by default the program's name).

    Gradients that are there at the end of a step are saved too, so accumulating them over several steps is exact.
    Where nothing accumulates, `opt.zero_grad()` after `opt.step()` keeps them out of the checkpoints.

    Under torchrun, with DistributedDataParallel, make the run in every process. All save and stop at the same step,
    whichever of them is told to; rank 0 writes what they have in common. `batch_size` of the loader counts the samples
    of all processes, each of which gets its share, so another number of them may resume the run.
    """

    def __init__(
        self,
        *,
        max_lost: str | float | None = None,
        keep: int = DEFAULT_KEEP,
        per_rank: Collection[str] = (),
        **objects: Stateful,
    ) -> None:
        """Restore `objects`, each under the name it is given here.

        `max_lost` bounds the time between two checkpoints ("90s", "15m" or seconds; at most an hour, by default 15
        minutes). They come more often, down to one a minute, where what they are measured to cost is worth it.
        `SPOTKEEPER_MAX_LOST_SECONDS` goes before it. `keep`, at least 2, is the number of valid checkpoints kept.

        The learning rate comes from the checkpoint too, with the optimizer; a line tells where the program has another
        one. To train on with that, set it after making the run: `for group in opt.param_groups: group["lr"] = …`.

        `per_rank` names those of the objects whose state is another one in each process, such as the memory of an
        agent; only the same number of processes can resume such a run. Random numbers, gradients, the place in a
        stream, and objects that are cut over the processes (FSDP2's DTensors) are kept for each process anyway.

        Raises:
            ValueError: if the settings are unusable, an object cannot be saved, the newest checkpoint is of other
                objects than these or has optimizers or schedulers of other classes, or this process has this run
                open already (see `close`).
            OSError: if the store does not answer, or refuses: a `StoreRefusedError` names what has to be changed.
            FencedError: if a newer attempt has started; not caught, it ends the program with EXIT_FENCED.
        """
        check_stateful(objects)
        if unknown := sorted(set(per_rank) - set(objects)):
            raise ValueError(f"per_rank names {', '.join(unknown)}; the objects are {', '.join(sorted(objects))}")
        interval_seconds = parse_duration(DEFAULT_MAX_LOST if max_lost is None else max_lost)
        settings = RunSettings.read(os.environ, sys.argv[0])
        live_runs.refuse_if_live(settings.checkpoint_uri, settings.run_id)
        self._settings = settings
        self._max_lost_seconds = check_max_lost(settings.max_lost_seconds or interval_seconds)
        self._progress_seconds = settings.progress_seconds
        self._ranks = Ranks.of_run(settings.ranks, settings.run_id) if settings.ranks is not None else None
        self._speaks = self._ranks is None or self._ranks.leads
        # On each host of several, as each has a `spotkeeper-exec` of its own.
        tells = self._ranks is None or self._ranks.watches_host
        self._outcome_file = OutcomeFile(settings.outcome_file) if settings.outcome_file and tells else None
        self._objects = objects
        self._per_rank = frozenset(per_rank) | {name for name, each in objects.items() if is_cut(each)}
        asks_host = self._ranks is None or self._ranks.watches_host
        self._watch = NoticeWatch(Imds.from_environ(os.environ) if asks_host else None)
        self._log = EventLog(settings.run_id, settings.epoch, is_silent=not self._speaks)
        self._goodput = Goodput()
        self._bar: ProgressBar | None = None
        self._step = 0
        self._saved_at = self._progress_due_at = self._began_at = time.monotonic()
        self._committed_step: int | None = None
        self._is_finished = self._wants_to_finish = False
        self._requested: Cause | None = None
        self._waits = self._copies_at_once = False
        self._fenced: FencedError | None = None
        self._has_said_lost = False
        self._cause: Cause = "periodic"
        self._boundary: dict[str, int] | None = None
        self._is_in_step = False
        self._logged: dict[str, Any] = {}
        self._loop_state: dict[str, Any] | None = None
        self._has_loop = False
        self._write_outcome(STARTED)
        try:
            self._resume(settings, keep)
        except FencedError as error:
            self._report_fenced(error)
            raise
        except (StoreRefusedError, PermissionError):
            self._write_outcome(REFUSED)
            raise
        except OSError:
            # An outage of the store is no fault of the program: another attempt may find it back.
            self._write_outcome(YIELDED)
            raise
        live_runs.enter(settings.checkpoint_uri, settings.run_id)

    @property
    def step(self) -> int:
        """Steps that are done, those of earlier attempts included."""
        return self._step

    @property
    def yield_requested(self) -> bool:
        """Whether this attempt should stop soon: look at it in long work within a step, and cut that short."""
        return self._watch.stop_reason is not None or self._watch.interruption is not None

    def loader(
        self,
        dataset: Dataset[Any] | Iterable[Any],
        *,
        batch_size: int,
        shuffle: bool | None = None,
        weights: Weights | None = None,
        sampler: OrderFunction | None = None,
        num_workers: int = 0,
        seed: int = 0,
        drop_last: bool = False,
        collate_fn: Collate | None = None,
    ) -> Loader:
        """Return the batches of `dataset` for `steps`, in an order that depends on `seed` alone.

        A dataset with `__len__` and `__getitem__` is shuffled anew every epoch; or is not, with `shuffle=False`; or is
        drawn from with replacement, each sample in proportion to its number in `weights`; or is visited as the function
        `sampler` says, which returns the indices of an epoch for (seed, epoch), as many for each, and nothing else may
        go into them. Resuming costs no reading, and `num_workers` may change.

        A dataset with `__iter__` alone, a stream, is iterated over once an epoch, after a call of its `set_epoch` if it
        has one. With workers, it has to shard itself by `torch.utils.data.get_worker_info()`. A resumed run reads
        the current epoch again from its beginning and drops what it had: that costs the time of reading it, up to an
        epoch's. `num_workers` must stay as it is.

        Under torchrun, `batch_size` counts the samples of all processes together, and each loads its share of every
        batch. A stream has to shard itself by `torch.distributed.get_rank()` too; each process takes `batch_size`
        divided by their number from its own shard.

        Python's, numpy's and torch's global generators are seeded before each sample is fetched, so that
        augmentation that draws from them is the same with any number of workers and after any restart. A generator
        of the dataset's own (`self.rng = np.random.default_rng(0)`) would not be, and is refused where it is found:
        in attributes of the dataset, its transforms, `sampler` and `collate_fn`.

        Raises:
            ValueError: if the order could not be resumed exactly, two orders are asked for, the dataset is smaller than
                one batch that must be full, or keeps a generator of its own.
        """
        return make_loader(
            dataset,
            batch_size=batch_size,
            shuffle=shuffle,
            weights=weights,
            sampler=sampler,
            num_workers=num_workers,
            seed=seed,
            drop_last=drop_last,
            collate_fn=collate_fn,
            share=self._ranks.share if self._ranks is not None else WHOLE,
        )

    def steps(self, loader: Loader, *, total: int) -> Iterator[tuple[int, Any]]:
        """Yield (step, batch) for the steps that remain of 0 to `total` - 1, epoch after epoch.

        Between two steps it saves when it is time. When the attempt has to stop, it saves and raises
        `SystemExit(EXIT_YIELDED)` there: what follows the loop runs only when training is over, while
        `finally` blocks run always. A second Ctrl-C does not wait for the save.

        Raises:
            TypeError: if `loader` does not come from `Run.loader`.
            ValueError: if `total` is below 1, or the loader differs from the one that the checkpoint was made with.
            RuntimeError: if the run has been stepped through before.
        """
        if not isinstance(loader, Loader):
            raise TypeError(
                f"run.steps needs what run.loader(dataset, …) returns, whose position can be resumed; got "
                f"{type(loader).__name__}"
            )
        if total < 1:
            raise ValueError(f"total must be at least 1 step; got {total}")
        if self._has_loop:
            raise RuntimeError("run.steps can be used once; for more steps, give a higher total")
        self._check_same_order(loader)
        self._has_loop = True
        return self._loop(loader, total)

    def log(self, **metrics: Any) -> None:
        """Remember these numbers for the next progress line. One-element tensors are read only when it is written."""
        self._logged.update(metrics)

    @property
    def committed_step(self) -> int | None:
        """The step of the newest checkpoint that is known to be durable; None if there is none yet."""
        return self._committed_step

    def save_now(self, *, wait: bool = False) -> None:
        """Save at the end of the current step. With `wait`, the next one begins when the checkpoint is durable.

        Under torchrun, where only some processes call it, it may be the end of the next step.
        """
        self._requested = "requested"
        self._waits = wait

    def request_yield(self, reason: str, *, within_seconds: float | None = None) -> None:
        """Ask this attempt to stop at the end of its step, saved, so that another one goes on.

        For notices that only the program can know of: of a scheduler above it, such as Ray's or Slurm's, or of its own.
        It may be called in any thread, and again: the first counts. `reason` goes into the log; `within_seconds` says
        for how long the machine will still be there, if that is known.

        Raises:
            ValueError: if `within_seconds` is not above 0.
        """
        if within_seconds is not None and not 0 < within_seconds < float("inf"):
            raise ValueError(f"within_seconds must be above 0, or left out where it is not known; got {within_seconds}")
        self._watch.request(reason, within_seconds)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Evaluate in this block, at the beginning of a step, so that a notice in the middle of it loses nothing.

            for step, batch in run.steps(data, total=100_000):
                if step % 1000 == 0:
                    with run.evaluation():
                        run.log(accuracy=evaluate(model))
                ...

        While it runs, the state of the step's beginning can be saved, which a notice makes happen at once if the
        evaluation does not end in two seconds. The resumed run then repeats the evaluation, and no training. Nothing
        of the step may come before it: no forward in training mode, no random number, and no change of the objects.

        Outside of the loop, where everything has been saved, it does nothing; nor does it under torchrun.

        Raises:
            RuntimeError: if an optimizer has stepped in this step already: a resumed run could not repeat the
                evaluation without the training before it.
        """
        if not self._is_in_step:
            yield
            return
        is_saved = self._step == self._committed_step
        with self._mid_step.evaluation(self._step, self._boundary_state, is_saved=is_saved):
            yield

    def finish(self) -> None:
        """Make the current step the last, as early stopping does. The run then counts as completed.

        Under torchrun call it in all processes in the same step; where only some do, the next step may be the last.
        """
        self._wants_to_finish = True
        self._is_finished = self._ranks is None

    def close(self) -> None:
        """Give the run up in this process, which may then make another `Run` of it. Nothing is saved."""
        if self._ranks is not None:
            self._ranks.end()
        self._engine.close()
        live_runs.leave(self._settings.checkpoint_uri, self._settings.run_id)

    # The loop

    def _loop(self, loader: Loader, total: int) -> Iterator[tuple[int, Any]]:
        self._loader = loader
        bar = open_progress_bar(step=self._step, total=total) if self._speaks else nullcontext()
        self._mid_step = MidStepSaves(self._engine, self._watch, fits=self._fits_before_the_host_goes)
        with self._watch, self._agreeing(), closing(self._engine), self._mid_step, bar as self._bar:
            if self._loop_state is not None:
                # Not before: what the program draws, or zeroes, between making the run and here must not count.
                rng.restore(self._loop_state["rng"])
                gradients.restore(self._objects, self._loop_state["gradients"])
                if (position := self._loop_state.get("position")) is not None:
                    loader.restore(position)
            self._saved_at = self._progress_due_at = time.monotonic()
            if self._is_done(total):
                self._say(f"run {self._settings.run_id} is complete already: step {self._step} of {total}")
            else:
                self._engine.start()
                self._say(
                    f"saves at least every {self._max_lost_seconds:g} s (max_lost), on a notice and at the end; what a "
                    "kill loses is what came after the last save"
                )
                self._keep_boundary()
                self._goodput.enter(Activity.DATA)
                for batch in loader.batches(self._step, total - self._step):
                    self._goodput.enter(Activity.STEP)
                    try:
                        yield self._step, batch
                    except GeneratorExit:
                        self._say(
                            f"the loop over run.steps was left in step {self._step} of {total}, and what came after "
                            f"the checkpoint of step {self._committed_step} is not saved. To stop early and count as "
                            "completed, call run.finish() and let the loop end"
                        )
                        raise
                    self._goodput.enter(Activity.OTHER)
                    self._engine.forget()
                    self._is_in_step = False
                    self._step += 1
                    self._report_progress(total)
                    self._report_notices()
                    if not self._is_done(total):
                        self._between_steps()
                    if self._is_done(total):
                        break
                    self._keep_boundary()
                    self._goodput.enter(Activity.DATA)
            self._complete()
            if self._goodput.num_steps:
                self._show_progress(total)

    @contextmanager
    def _agreeing(self) -> Iterator[None]:
        if self._ranks is None:
            yield
            return
        self._ranks.begin(self._step)
        try:
            yield
        finally:
            self._ranks.end()

    def _is_done(self, total: int) -> bool:
        return self._is_finished or self._step >= total

    def _between_steps(self) -> None:
        self._learn()
        if self._ranks is not None:
            self._between_steps_of_all(self._ranks)
        elif (news := self._news()) is not None:
            self._act_on(news)

    def _between_steps_of_all(self, ranks: Ranks) -> None:
        while (decision := ranks.at(self._step, self._news())) is not None:
            if decision.void is not None:
                self._say(f"the processes could not agree on a step to save or stop at: {decision.void}")
                return
            first = min(decision.news, key=lambda news: URGENCY.index(news["cause"]))
            self._act_on({**first, "waits": any(news.get("waits") for news in decision.news)})
            if self._is_finished:
                return
        if ranks.lost is not None:
            self._report_lost(ranks.lost)

    def _news(self) -> News | None:
        """Return why this process would save or stop at this boundary, the most urgent reason first."""
        if self._fenced is not None:
            return {"cause": "fenced", "reason": self._fenced.reason}
        if (interruption := self._watch.interruption) is not None:
            return {"cause": "notice", "action": interruption.action, "deadline": interruption.deadline.isoformat()}
        if self._watch.stop_reason is not None:
            cause = "signal" if self._watch.signal_name else "requested"
            return {"cause": cause, "stops": True, "reason": self._watch.stop_reason}
        if self._wants_to_finish:
            return {"cause": "finish"}
        if self._engine.is_busy and not self._waits:
            return None  # what is due is begun when this one has ended
        if self._requested is not None:
            return {"cause": self._requested, "waits": self._waits}
        if self._speaks and self._is_save_due():
            return {"cause": "periodic"}
        return None

    def _is_save_due(self) -> bool:
        now = time.monotonic()
        return self._pace.is_due(
            since_save_seconds=now - self._saved_at, attempt_seconds=now - self._began_at, rebalance_recommended=False
        )

    def _act_on(self, news: News) -> None:
        match news["cause"]:
            case "fenced":
                error = FencedError(news["reason"])
                self._report_fenced(error)
                raise error
            case "notice":
                self._watch.hear(Interruption(news["action"], datetime.fromisoformat(news["deadline"])))
                self._report_notices()
                self._save_before_the_host_goes()
                self._linger()
            case ("signal" | "requested") as cause if news.get("stops"):
                self._report_notices()  # it may have come since the last look
                self._save_persistently(cause, URGENT_ATTEMPTS)
                if self._settings.is_sagemaker and cause == "signal":
                    # Any exit would be the end of the job, which SageMaker resumes only if it ends it itself. Perhaps
                    # only another rank's node was told.
                    self._stay(expected_signals=1)
                self._yield(news["reason"])
            case "finish":
                self._is_finished = True
            case cause if news.get("waits"):
                self._save(cause)
            case cause:
                self._learn(wait=True)  # alone it has been learnt; another rank may not have heard of it yet
                self._begin(cause, at_once=self._copies_at_once)

    def _linger(self) -> NoReturn:
        """Wait for the host to go: if this attempt ended before, Batch could start the next on the dying host."""
        if self._watch.signal_name is None:
            self._stay(expected_signals=0)
        self._yield(self._watch.signal_name or "the host outlived its interruption")

    def _stay(self, *, expected_signals: int) -> None:
        told = {"committed_step": self._committed_step, **self._goodput.counters()}
        self._log.write(LogEvent.LINGERING, step=self._step, **told)
        self._goodput.enter(Activity.LINGER)
        self._watch.wait_for_end(LINGER_GRACE_SECONDS, expected_signals=expected_signals)

    def _yield(self, reason: str) -> NoReturn:
        self._write_outcome(YIELDED)
        told = {"committed_step": self._committed_step, "reason": reason, **self._goodput.counters()}
        self._log.write(LogEvent.YIELDED, step=self._step, **told)
        raise SystemExit(EXIT_YIELDED)

    def _complete(self) -> None:
        if not self._save_persistently("final", FINAL_ATTEMPTS):
            # The result would exist in this process only: better to train the last stretch again.
            self._yield("the final checkpoint could not be written")
        self._write_outcome(COMPLETED)

    # Saving

    def _save_before_the_host_goes(self) -> None:
        self._learn(wait=True)  # what is in flight comes first: once committed, it cannot be lost any more
        budget_seconds, total_bytes = self._watch.budget_seconds(), self._engine.saved_bytes
        # Several processes save all together or not at all, so they do not decide by clocks of their own.
        if self._ranks is not None or self._fits_before_the_host_goes():
            self._save_persistently("notice", URGENT_ATTEMPTS)
        else:
            reason = f"{total_bytes} bytes cannot be written in the {budget_seconds:.1f} s that are left"
            self._log.write(LogEvent.SAVE_FAILED, step=self._step, cause="notice", reason=reason)

    def _save_persistently(self, cause: Cause, attempts: int) -> bool:
        for attempt in range(1, attempts + 1):
            if self._save(cause):
                return True
            if attempt < attempts:
                time.sleep(RETRY_SECONDS)
        return False

    def _save(self, cause: Cause) -> bool:
        """Make the state of this step boundary durable, if it is not yet; tell whether it is."""
        self._learn(wait=True)
        self._begin(cause, at_once=True)
        self._learn(wait=True)
        return self._step == self._committed_step

    def _begin(self, cause: Cause, *, at_once: bool = False) -> None:
        """Begin to save the state of this step boundary, if it is not durable yet."""
        self._saved_at = time.monotonic()
        self._requested, self._waits = None, False
        if self._step == self._committed_step:
            return
        self._cause = cause
        self._goodput.enter(Activity.STALL)
        self._goodput.begin_save()
        self._copies_at_once = False
        loop, gradients_now = self._loop_state_at(self._place()), gradients.capture(self._objects)
        self._engine.begin(step=self._step, cause=cause, loop=loop, gradients=gradients_now, at_once=at_once)
        self._goodput.enter(Activity.OTHER)

    def _place(self) -> dict[str, Any]:
        """Return what each process has for itself, and what changes as soon as the next batch is drawn."""
        return {"rng": rng.capture(), "position": self._loader.position()}

    def _loop_state_at(self, place: dict[str, Any]) -> dict[str, Any]:
        if not self._speaks:
            return place
        return place | {
            "loader": self._loader.fingerprint(),
            "is_finished": self._is_finished,
            "classes": optimization.classes(self._objects),
            "per_rank": sorted(self._per_rank),
        }

    def _keep_boundary(self) -> None:
        """Let the state of this boundary be saved in the step that follows, if a notice comes there."""
        if self._ranks is not None:
            return  # the others may be elsewhere, and nobody could ask them in the middle of a step
        self._boundary = self._loader.position()
        self._is_in_step = True
        if self._step != self._committed_step:
            self._mid_step.at_boundary(self._step, self._boundary_state)

    def _boundary_state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        place = {"rng": rng.capture(), "position": self._boundary}
        return self._loop_state_at(place), gradients.capture(self._objects)

    def _fits_before_the_host_goes(self) -> bool:
        choice = self._pace.choose_last(
            budget_seconds=self._watch.budget_seconds(), total_bytes=self._engine.saved_bytes, in_flight=None
        )
        return choice is not EmergencySave.NOTHING

    def _learn(self, *, wait: bool = False) -> None:
        """Learn, or wait to learn, what became of the saves that were begun."""
        self._learn_of_one(wait=wait)
        while wait and self._engine.is_busy:
            self._learn_of_one(wait=True)

    def _learn_of_one(self, *, wait: bool) -> None:
        if wait:
            self._goodput.enter(Activity.STALL)
        try:
            progress = self._engine.wait() if wait else self._engine.poll()
        except FencedError as error:
            if self._ranks is not None and not wait:
                self._fenced = error  # here the others may still be in a step that needs this process
                return
            self._report_fenced(error)
            raise
        if progress is not Progress.NONE and progress is not Progress.UNDER_WAY and not self._engine.ended_in_mid_step:
            lost_seconds = self._goodput.end_save(is_committed=progress is Progress.COMMITTED)
            if progress is Progress.COMMITTED:
                took = self._engine.upload_seconds
                self._pace.add(
                    MeasuredSave(lost_seconds=lost_seconds, upload_seconds=took, bytes=self._engine.saved_bytes)
                )
        self._goodput.enter(Activity.OTHER)
        if progress is Progress.COMMITTED:
            self._committed_step = self._engine.ended_step
        if progress is Progress.VOID and not self._engine.ended_in_mid_step:
            self._requested, self._copies_at_once = self._cause, True

    def _object_states(self) -> dict[str, Any]:
        return {"objects": {name: each.state_dict() for name, each in self._objects.items()}}

    # Resuming

    def _resume(self, settings: RunSettings, keep: int) -> None:
        self._goodput.enter(Activity.RESTORE)
        checkpoints, checkpoint = self._open_checkpoints(settings, keep)
        self._log = EventLog(settings.run_id, checkpoints.epoch, is_silent=not self._speaks)
        self._pace = SavePace(
            max_lost_seconds=self._max_lost_seconds,
            num_interruptions=checkpoints.epoch - 1,
            run_seconds=checkpoints.run_seconds() if checkpoints.epoch > 1 else 0.0,
        )
        check_storable(self._object_states())
        writes = WriterSettings(
            checkpoint_uri=settings.checkpoint_uri,
            run_id=settings.run_id,
            keep=keep,
            epoch=checkpoints.epoch,
            parent=checkpoints.parent,
        )
        self._engine = Engine(self._objects, writes, self._log, ranks=self._ranks, per_rank=self._per_rank)
        if checkpoint is None:
            self._log.write(LogEvent.STARTED, step=0, max_lost_seconds=self._max_lost_seconds)
            return
        began = time.monotonic()
        self._restore(checkpoint)
        self._goodput.enter(Activity.OTHER)
        self._log.write(
            LogEvent.RESUMED,
            step=self._step,
            manifest=checkpoint.key,
            seconds=round(time.monotonic() - began, 3),
            max_lost_seconds=self._max_lost_seconds,
        )
        self._write_outcome(STARTED)

    def _open_checkpoints(self, settings: RunSettings, keep: int) -> tuple[Checkpoints, Checkpoint | None]:
        store = open_store(settings.checkpoint_uri)

        def join(epoch: int | None) -> Checkpoints:
            return Checkpoints(store, run_id=settings.run_id, keep=keep, epoch=epoch or settings.epoch)

        if self._ranks is not None:
            return self._ranks.open_checkpoints(join)
        checkpoints = join(None)
        return checkpoints, checkpoints.newest_valid()

    def _restore(self, checkpoint: Checkpoint) -> None:
        rank, world_size = (self._ranks.rank, self._ranks.world_size) if self._ranks is not None else (0, 1)
        state = restored(checkpoint, self._objects, rank=rank, world_size=world_size)
        programs_rates = optimization.learning_rates(self._objects)
        restore_objects(self._objects, state["objects"], state["loop"].get("classes", {}), checkpoint.key)
        for rate in optimization.overridden_rates(programs_rates, optimization.learning_rates(self._objects)):
            self._report_overridden(rate)
        self._loop_state = state["loop"]
        self._is_finished = state["loop"]["is_finished"]
        self._step = self._committed_step = checkpoint.manifest["step"]

    def _check_same_order(self, loader: Loader) -> None:
        if self._loop_state is None:
            return
        saved, now = self._loop_state["loader"], loader.fingerprint()
        # Checkpoints of old do not tell everything.
        known = [name for name in now if name in saved]
        differences = [f"{name} was {saved[name]!r} and is {now[name]!r}" for name in known if saved[name] != now[name]]
        if differences:
            raise ValueError(
                f"step {self._step} of the checkpoint means other samples in this loader: {', '.join(differences)}. "
                "Restore these, or start a new run (another SPOTKEEPER_RUN_ID, or an empty folder)"
            )

    # Reports

    def _report_progress(self, total: int) -> None:
        now = time.monotonic()
        if now < self._progress_due_at or not self._speaks:
            return
        self._progress_due_at = now + (self._progress_seconds if self._bar is None else REFRESH_SECONDS)
        self._show_progress(total)

    def _show_progress(self, total: int) -> None:
        metrics = {name: value.item() if hasattr(value, "item") else value for name, value in self._logged.items()}
        if self._bar is not None:
            self._bar.show(self._step, metrics)
            return
        told = {"step": self._step, "total": total, "metrics": metrics, **self._goodput.counters()}
        environment = self._settings.environment
        if environment is None:
            self._log.write(LogEvent.PROGRESS, **told)
        else:
            age_seconds = told["checkpoint_age_seconds"]
            self._log.write_measured(LogEvent.PROGRESS, CHECKPOINT_AGE, age_seconds, environment=environment, **told)

    def _report_notices(self) -> None:
        for notice in self._watch.take_news():
            told = {"reason": notice.reason} if notice.reason else {}
            self._log.write(LogEvent.NOTICE, step=self._step, kind=notice.kind, deadline=notice.deadline, **told)
            if notice.kind == "rebalance":
                self._requested = "rebalance"

    def _report_overridden(self, rate: optimization.OverriddenRate) -> None:
        values = {"checkpoint": rate.checkpoint, "program": rate.program}
        self._log.write(LogEvent.OVERRIDDEN, object=rate.name, setting="learning rate", **values)
        saved, given = (", ".join(f"{value:g}" for value in group) for group in values.values())
        self._say(
            f"{rate.name} goes on with the checkpoint's learning rate {saved}, not with the program's {given}; to "
            f"change it, set it in {rate.name}.param_groups after making the run, or start a new run"
        )

    def _report_lost(self, reason: str) -> None:
        """Say, once, that no agreement is possible any more; an attempt that is to stop does so without one."""
        if self.yield_requested:
            self._yield(f"no agreement with the other processes: {reason}")
        if not self._has_said_lost:
            self._has_said_lost = True
            self._say(f"no checkpoints from here on, as the processes cannot agree any more: {reason}")

    def _report_fenced(self, error: FencedError) -> None:
        self._write_outcome(FENCED)
        self._log.write(LogEvent.FENCED, step=self._step, reason=error.reason)

    def _say(self, sentence: str) -> None:
        if self._speaks:
            print(f"spotkeeper: {sentence}", file=sys.stderr, flush=True)

    def _write_outcome(self, outcome: str) -> None:
        if self._outcome_file is not None:
            self._outcome_file.write(outcome, self._step)
