"""The length of a run held against its schedule and its intervals, and the base learning rate."""

import json
from typing import Any

from paddlevideo.config.schema import Component, Config, ConfigError
from paddlevideo.solver.lr import LearningRateRule
from paddlevideo.solver.phases import Phase, evaluates


def schedule_notes(cfg: Config, phases: list[Phase], schedule: Any, validate: bool) -> list[str]:
    """What a run does not reach, or ends too early for; one line each.

    Args:
        phases: of the run.
        schedule: the learning-rate rule over all of them.
        validate: whether the run validates.
    """
    epochs = phases[-1].end
    if epochs == 0:  # the run ends after FROZEN
        return []
    notes = _rate_notes(cfg, epochs, schedule) if isinstance(schedule, LearningRateRule) else []
    long_cycle = any(phase.evaluate for phase in phases)
    if cfg.save_interval > epochs and not long_cycle:
        notes.append(
            f"epochs is {epochs} and save_interval is {cfg.save_interval}: "
            "only the first and the last epoch are saved"
        )
    if not validate:
        return notes
    if cfg.val_interval > epochs and not long_cycle:
        notes.append(
            f"epochs is {epochs} and val_interval is {cfg.val_interval}: "
            "only the last epoch is validated"
        )
    count = sum(evaluates(phases, done, cfg.val_interval) for done in range(1, epochs + 1))
    if cfg.EARLY_STOPPING and cfg.EARLY_STOPPING.patience >= count:
        notes.append(
            f"epochs is {epochs}, with {count} validation(s), and EARLY_STOPPING.patience is "
            f"{cfg.EARLY_STOPPING.patience}: the run never stops early"
        )
    return notes


def _rate_notes(cfg: Config, epochs: int, schedule: LearningRateRule) -> list[str]:
    component = rate_component(cfg)
    place = f"{component.where}: {component.path}" if component else "the learning rate"
    notes = []
    for name, length in schedule.lengths.items():
        if length != epochs:
            effect = f"the run ends before the schedule, at epoch {length}, does"
            if length < epochs:
                effect = f"the last {epochs - length} epochs have the rate of its end"
            notes.append(
                f"epochs is {epochs} and {place}.{name} is {length}: {effect}; "
                f"without {name} the schedule has the length of the run"
            )
    for name, epoch in schedule.changes.items():
        if epoch and epoch >= epochs:
            notes.append(
                f"epochs is {epochs} and {place}.{name} reaches to epoch {epoch:g}: "
                "the run ends before that"
            )
    return notes


def rate_component(cfg: Config) -> Component | None:
    """The learning-rate rule of a config, None where it has none."""
    rule = cfg.OPTIMIZER.args.get("learning_rate") if cfg.OPTIMIZER else None
    return rule if isinstance(rule, Component) else None


def rate_overrides(cfg: Config, rate: float) -> list[str]:
    """The overrides that make `rate` the base of the learning-rate rule, whatever its name there.

    Rates that belong to it, such as the start of a warm-up, change in proportion.

    Raises:
        ConfigError: the config has no rule, or a rule without a base rate.
    """
    component = rate_component(cfg)
    if component is None:
        raise ConfigError([f"{cfg.origin.path}: --lr needs OPTIMIZER.learning_rate"])
    rule = component.make()
    if not isinstance(rule, LearningRateRule) or not rate > 0:
        expected = "a rate above 0" if not rate > 0 else "a rule of paddlevideo; use -o"
        raise ConfigError([f"{component.where}: {component.path}: --lr {rate:g} needs {expected}"])
    try:
        args = rule.with_base_rate(rate)
    except ValueError as error:
        raise ConfigError([f"{component.where}: {component.path}: --lr: {error}"]) from error
    return [f"{component.path}.{name}={json.dumps(value)}" for name, value in args.items()]
