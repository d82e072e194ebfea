"""What all commands do with errors and signals."""

import argparse

import pytest

from paddlevideo import commands


@pytest.mark.parametrize(
    ("can_continue", "text"),
    [(False, "interrupted\n"), (True, "interrupted; run the command again to continue\n")],
)
def test_ctrl_c_is_one_line(capsys, can_continue, text):
    def stop(args):
        raise KeyboardInterrupt

    parser = argparse.ArgumentParser()
    code = commands.run(parser, stop, [], bare_help=False, can_continue=can_continue)
    assert code == 130 and capsys.readouterr().err == text
