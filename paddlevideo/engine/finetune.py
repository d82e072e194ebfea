"""The FINETUNE section: freeze parts of a model, or train them with a lower learning rate."""

from collections.abc import Sequence

from paddlevideo import paddle_internals
from paddlevideo.config.registry import nearest
from paddlevideo.config.schema import Config, ConfigError
from paddlevideo.models.base import Recognizer


def apply_finetune(cfg: Config, model: Recognizer) -> str:
    """Freeze what FINETUNE.freeze names and scale the learning rates that FINETUNE.lr_mult names.

    Frozen parameters get no gradient. Batch norms with frozen parameters normalize by their running
    statistics in training too, and do not update them.

    Returns:
        what was done, as text.

    Raises:
        ConfigError: a name matches no parameter, nothing is left to train, or a factor is not
            above 0.
    """
    spec, place = cfg.FINETUNE, f"{cfg.origin.path}: FINETUNE"
    parameters = dict(model.named_parameters())
    trained = {name: p for name, p in parameters.items() if not p.stop_gradient}
    problems: list[str] = []

    def prefixes(key: str, word: str) -> tuple[str, ...]:
        found = model.stages.get(word, (word,))
        if not word or not any(name.startswith(found) for name in trained):
            known = [*model.stages, *sorted({name.rsplit(".", 1)[0] for name in trained})]
            hint = nearest(word, known)[:300]
            problems.append(f"{place}.{key}: no parameter begins with {word!r}{hint}")
        return found

    frozen = tuple(prefix for word in spec.freeze for prefix in prefixes("freeze", word))
    factors = {
        prefix: factor
        for word, factor in spec.lr_mult.items()
        for prefix in prefixes("lr_mult", word)
    }
    problems += [
        f"{place}.lr_mult.{word} is {factor!r}, expected a number above 0; "
        "FINETUNE.freeze stops the training of a part"
        for word, factor in spec.lr_mult.items()
        if not is_factor(factor)
    ]
    stopped = [name for name in trained if name.startswith(frozen)] if frozen else []
    if frozen and len(stopped) == len(trained) and not problems:
        problems.append(f"{place}.freeze leaves no parameter to train")
    if frozen and cfg.sync_bn:
        problems.append(
            f"{cfg.origin.path}: sync_bn updates the statistics of frozen batch norms too; "
            "remove sync_bn or FINETUNE.freeze"
        )
    if problems:
        raise ConfigError(problems)
    if frozen:
        freeze(model, stopped, frozen)
    for name, parameter in trained.items():
        matches = [prefix for prefix in factors if name.startswith(prefix)]
        if matches and name not in stopped:
            parameter.optimize_attr["learning_rate"] *= float(factors[max(matches, key=len)])
    texts = []
    if frozen:
        count = f"{len(stopped)} of {len(trained)} trained tensors"
        texts.append(f"frozen: {', '.join(spec.freeze)} ({count})")
    texts += [f"learning rate x {factor:g}: {word}" for word, factor in spec.lr_mult.items()]
    return "; ".join(texts)


def freeze(model: Recognizer, names: Sequence[str], prefixes: tuple[str, ...]) -> None:
    """Stop the gradients of these parameters, and the statistics of their batch norms."""
    parameters = dict(model.named_parameters())
    for name in names:
        parameters[name].stop_gradient = True
    model.frozen_prefixes = (*model.frozen_prefixes, *prefixes)
    for layer in model.sublayers():
        if not paddle_internals.is_batch_norm(layer) or layer.weight is None:
            continue
        if layer.weight.stop_gradient:
            paddle_internals.freeze_statistics(layer)


def is_factor(value: object) -> bool:
    """Whether a value of a config is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value < float("inf")
