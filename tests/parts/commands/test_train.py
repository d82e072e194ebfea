"""The short flags of main.py: the config that they make, and conflicts with -o."""

import pytest

import paddlevideo
from paddlevideo.commands import train
from paddlevideo.commands.train import load_config, main, make_parser
from paddlevideo.config.schema import ConfigError


@pytest.fixture
def load(small):
    """`load(*flags, **changes)`: the config that main.py loads for these flags."""

    def call(*flags, **changes):
        path = small(**changes).origin.path
        return load_config(make_parser().parse_args(["-c", path, *map(str, flags)]))

    return call


def schedule(cfg) -> dict:
    return dict(cfg.OPTIMIZER.args["learning_rate"].args)


def test_short_flags_set_their_keys(load, tmp_path):
    flags = ["--epochs", 4, "--batch_size", 5, "--data", tmp_path / "a b: 1", "--name", "x/2"]
    cfg = load(*flags, "--lr", 0.002)
    assert (cfg.epochs, cfg.DATASET.batch_size) == (4, 5)
    assert cfg.DATASET.root == str(tmp_path / "a b: 1") and cfg.folder == "output/x/2"
    assert schedule(cfg)["cosine_base_lr"] == 0.002
    # What was overridden is in run.yaml, so that it repeats the run.
    assert cfg.origin.data["OPTIMIZER"]["learning_rate"]["cosine_base_lr"] == 0.002


@pytest.mark.parametrize("name", ["123", "true", "null", "[a]", "名", 'a"b'])
def test_a_name_is_never_another_type(load, name):
    assert load("--name", name).folder == f"output/{name}"
    assert load("--data", name).DATASET.root == name


@pytest.mark.parametrize(
    ("flag", "value", "key"),
    [
        ("epochs", 3, "epochs"),
        ("batch_size", 4, "DATASET.batch_size"),
        ("data", "d", "DATASET.root"),
        ("name", "n", "output_dir"),
        ("lr", 0.5, "OPTIMIZER.learning_rate.cosine_base_lr"),
        ("lr", 0.5, "OPTIMIZER.learning_rate.warmup_start_lr"),
    ],
)
def test_a_flag_and_an_override_of_one_key_are_refused(load, flag, value, key):
    with pytest.raises(ValueError, match=f"^--{flag} {value} and -o {key}=7 are both given"):
        load(f"--{flag}", value, "-o", f"{key}=7")


def test_other_overrides_stay_beside_the_flags(load):
    cfg = load("--epochs", 3, "--lr", 1, "-o", "log_interval=7", "-o", "DATASET.num_workers=1")
    assert (cfg.epochs, cfg.log_interval, cfg.DATASET.num_workers) == (3, 7, 1)


RULES = [
    (
        {"name": "CustomWarmupCosineDecay", "warmup_epochs": 1}
        | {"warmup_start_lr": 0.01, "cosine_base_lr": 0.1},
        {"cosine_base_lr": 0.02, "warmup_start_lr": 0.002},
    ),
    (
        {"name": "CustomWarmupPiecewiseDecay", "warmup_epochs": 0, "warmup_start_lr": 0.0}
        | {"step_base_lr": 0.1, "lrs": [1.0, 0.1], "steps": [0.0, 1.0]},
        {"step_base_lr": 0.02, "warmup_start_lr": 0.0, "lrs": [1.0, 0.1]},
    ),
    (
        {"name": "PiecewiseDecay", "boundaries": [1, 2], "values": [0.1, 0.01, 0.003]},
        {"values": [0.02, 0.002, 0.0006]},
    ),
    ({"name": "CosineAnnealingDecay", "learning_rate": 0.1}, {"learning_rate": 0.02, "T_max": 2}),
    (
        {"name": "CosineAnnealingDecay", "learning_rate": 0.1, "eta_min": 0.01},
        {"learning_rate": 0.02, "eta_min": 0.002},
    ),
    (
        {"name": "ExampleDecay", "learning_rate": 0.1, "decay_examples": 10},
        {"learning_rate": 0.02, "decay_examples": 10},
    ),
    ({"name": "ConstantDecay", "learning_rate": 0.1}, {"learning_rate": 0.02}),
]


@pytest.mark.parametrize(("rule", "expected"), RULES, ids=[f"{rule['name']}" for rule, _ in RULES])
def test_lr_is_the_base_rate_of_every_rule(load, rule, expected):
    optimizer = {"name": "Momentum", "learning_rate": rule}
    cfg = load("--lr", 0.02, OPTIMIZER=optimizer)
    assert expected.items() <= schedule(cfg).items()
    before, after = (
        load(*flags, OPTIMIZER=optimizer).OPTIMIZER.make().learning_rate
        for flags in ([], ["--lr", 0.02])
    )
    assert after(0.0) == pytest.approx(0.2 * before(0.0))
    if not after.needs_epoch_size:
        assert after(1.0) == pytest.approx(0.2 * before(1.0))


@pytest.mark.parametrize("rate", ["0", "-1", "nan"])
def test_lr_is_above_zero(load, rate):
    with pytest.raises(ConfigError, match=r"--lr \S+ needs a rate above 0"):
        load("--lr", rate)


def test_lr_needs_an_optimizer(load):
    with pytest.raises(ConfigError, match=r"--lr needs OPTIMIZER\.learning_rate"):
        load("--lr", 0.1, OPTIMIZER=None)


@pytest.mark.parametrize("flags", [["--test", "-w", "a.pdparams"], ["--validate"]])
def test_scores_are_not_written_to_a_url(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["-c", "demo/pptsn", *flags, "--out", "https://me:word@host/s.json"]) == 1
    printed = capsys.readouterr().err
    assert "--out https://host/s.json: scores are written to a local file" in printed
    assert "word" not in printed and not list(tmp_path.iterdir())


def test_a_training_says_which_flags_are_for_a_test(monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(train, "load_config", lambda args: "cfg")
    monkeypatch.setattr(paddlevideo, "train", lambda *given: trained.append(given), raising=False)
    assert main(["-c", "x", "--out", "s.json", "--eval", "top_k_accuracy"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "--out has no effect in a training; it is for --test",
        "--eval has no effect in a training; it is for --test",
    ]
    assert main(["-c", "x"]) == 0 and capsys.readouterr().out == "" and len(trained) == 2
