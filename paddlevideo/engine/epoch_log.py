"""The record of a training epoch: log lines, metrics.jsonl, averages over steps and ranks."""

import numpy as np

from paddlevideo import dist, log
from paddlevideo.engine.clock import Clock
from paddlevideo.engine.run import Run
from paddlevideo.engine.step_numbers import StepNumbers

logger = log.logger


class EpochLog:
    """Logs the steps of an epoch, and its averages at the end.

    Sums are kept in the progress of the run, so that a resumed epoch ends with the same averages.
    """

    def __init__(self, run: Run):
        self.run = run
        progress, plan = run.state.progress, run.plan
        epoch = progress.epoch
        steps_left = plan.steps_before(plan.num_epochs) - plan.steps_before(epoch) - progress.step
        self.clock = Clock(steps_left)
        self.bar = log.progress(
            total=run.num_steps,
            label=f"epoch {epoch + 1}/{plan.num_epochs}",
            start=progress.step,
            show=dist.is_main(),
        )

    def loaded(self) -> None:
        """Record that the batch of the next step has arrived."""
        self.clock.loaded()

    def step(self, epoch: int, numbers: list[StepNumbers], clips: int) -> None:
        """Count a step that is done.

        Args:
            numbers: those that were read after it.
            clips: in its batch on this rank.
        """
        self.run.state.progress.step += 1
        self.clock.stepped(clips)
        self.bar.update()
        self.add(epoch, numbers)

    def add(self, epoch: int, numbers: list[StepNumbers]) -> None:
        """Add numbers to the sums of the epoch; log a step every `log_interval` steps."""
        sums = self.run.state.progress.sums
        for one in numbers:
            for key, value in {**one.losses, "clips": 1.0}.items():
                sums[key] = sums.get(key, 0.0) + value * one.clips
            if one.step % self.run.cfg.log_interval == 0:
                self._log_step(epoch, one.step, one.losses)

    def _log_step(self, epoch: int, step: int, numbers: dict[str, float]) -> None:
        run, clock = self.run, self.clock
        rate = run.lr(epoch, step)
        reader = sum(clock.waits) / len(clock.waits)
        others = " ".join(f"{k}: {v:.5f}" for k, v in numbers.items() if k != "loss")
        # The form of PaddleVideo's line, which users search for.
        logger.info(
            f"epoch:[{epoch + 1:>3d}/{run.plan.num_epochs:<3d}] train step:{step:<4d} "
            f"loss: {numbers['loss']:.5f} lr: {rate:.6f} {others} "
            f"batch_cost: {clock.cost:.5f} sec, reader_cost: {reader:.5f} sec, "
            f"data: {100 * reader / clock.cost:.0f}%, "
            f"ips: {clock.speed:.5f} instance/sec, eta: {clock.eta}"
        )
        run.metrics.write(
            split="train",
            epoch=epoch,
            step=step,
            iteration=run.plan.steps_before(epoch) + step,
            lr=rate,
            **numbers,
            batch_cost=clock.cost,
            reader_cost=reader,
            seconds=run.seconds,
        )

    def close(self) -> None:
        """End the progress bar, also where an epoch stops before its end."""
        self.bar.close()

    def finish(self, epoch: int) -> None:
        """Log the averages of the epoch over all ranks, and the files that failed on any of them.

        Raises:
            TooManyFailures: the failures of all ranks together exceed the limit.
        """
        self.close()
        run, clock = self.run, self.clock
        sums = {k: np.float64(v) for k, v in run.state.progress.sums.items()}
        sums = dist.sum_over_ranks(sums)
        averages = {k: float(v / sums["clips"]) for k, v in sums.items() if k != "clips"}
        count = max(clock.count, 1)
        text = " ".join(f"{k}_avg: {v:.5f}" for k, v in averages.items())
        # The form of PaddleVideo's line, which users search for.
        logger.info(
            f"END epoch:{epoch + 1:<3d} train {text}"
            f" avg_batch_cost: {clock.total / count:.5f} sec,"
            f" avg_reader_cost: {clock.total_wait / count:.5f} sec,"
            f" batch_cost_sum: {clock.total:.5f} sec,"
            f" avg_ips: {clock.clips / max(clock.total, 1e-9):.5f} instance/sec."
        )
        steps = run.plan.steps_before(epoch + 1)
        memory = dist.memory_mb()
        if memory:
            used, reserved = memory["gpu_memory_mb"], memory["gpu_reserved_mb"]
            logger.info(f"peak GPU memory: {used} MB in use, {reserved} MB reserved")
        run.metrics.write(
            split="epoch", epoch=epoch, iteration=steps, seconds=run.seconds, **averages, **memory
        )
        self._log_failures()

    def _log_failures(self) -> None:
        failures, missing = self.run.data.failures, self.run.data.missing_audio
        failed = {path for part in dist.gather(sorted(failures.files)) for path in part}
        if failed:
            logger.warning(
                f"{len(failed)} of {failures.num_records} files have failed so far; "
                "each is named above or in a rank's log"
            )
        failures.check(len(failed))  # each rank has compared only its own with the limit
        missing.indices.update(*dist.gather(sorted(missing.indices)))
        if str(missing):
            logger.warning(str(missing))
