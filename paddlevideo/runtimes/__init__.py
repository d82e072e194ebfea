"""Runtimes: what runs an exported program or a built model.

`base.py` has the small interface; each runtime is one file, found by `choose.py`. `manifest.py`
reads and writes `model.yaml`, which describes an exported program.
"""
