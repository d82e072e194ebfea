# Everything here works on a fresh machine with Python 3.11 to 3.13 and make; what is installed stays in .venv.
PYTHON ?= python3
# Some machines set it; without compiled modules each process of the tests starts half a second later.
export PYTHONDONTWRITEBYTECODE =
VENV = .venv
VERSIONS = constraints.txt  # or lowest.txt; nothing (VERSIONS=) installs the newest versions
EXTRAS = cpu,onnx,openvino,audio,weights,remote,serve,plot,completion,dev
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
PARALLEL := --numprocesses auto --maxprocesses 8 --dist loadfile  # a test file belongs to one process

.PHONY: demo gpu-check test test-quick test-all lint coverage clean

demo: $(READY)  ## make a small video data set, train PP-TSN on it, test, export and predict
	$(RUN) -B tools/data/make_demo.py --out data/demo --example data/example.avi
	$(RUN) -B main.py --validate -c configs/demo/pptsn.yaml --overwrite
	$(RUN) -B main.py --test -c configs/demo/pptsn.yaml -w output/demo_pptsn/ppTSN_best.pdparams --out output/demo_pptsn/test.json --overwrite
	$(RUN) -B tools/export_model.py -c configs/demo/pptsn.yaml -p output/demo_pptsn/ppTSN_best.pdparams -o inference/demo_pptsn --format all --overwrite
	$(RUN) -B tools/predict.py --model inference/demo_pptsn --input_file data/demo/appearance/test --save_json output/demo_pptsn/predictions.json --overwrite --use_gpu=False
	$(RUN) -B tools/analysis/plot_run.py output/demo_pptsn
	@echo
	@echo "model        inference/demo_pptsn"
	@echo "plot         output/demo_pptsn/run.png"
	@echo "predictions  output/demo_pptsn/predictions.json"
	@echo "test scores  output/demo_pptsn/test.json"

gpu-check:  ## with your own Python and its paddlepaddle-gpu: train, export, run every runtime on the GPUs
	@$(PYTHON) -c 'import paddle, tqdm' 2>/dev/null || { echo "$(PYTHON) lacks what paddlevideo needs: $(PYTHON) -m pip install '.[gpu]', with the paddlepaddle-gpu for your CUDA version"; exit 2; }
	$(PYTHON) -B tools/gpu_check.py

test: $(READY)  ## the test suite, but for the tests marked slow
	@echo "All tests but the slow ones, in random order, one process per core: 3 to 6 minutes on 2 cores."
	$(RUN) -m pytest $(PARALLEL) -m "not slow"

test-quick: $(READY)  ## tests of the changed rooms and fast rules; or: make test-quick ROOM=data
	@echo "Tests of what changed since the last commit, or in the last commit; or of ROOM=..."
	chosen="$(if $(ROOM),tests/parts/$(ROOM),$$($(RUN) -m tests.changed))" && $(RUN) -m pytest $(PARALLEL) -m "not slow" $$chosen

test-all: $(READY)  ## all of it: several processes, fuzzing of files, a browser
	$(RUN) -m pytest $(PARALLEL)

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright --pythonpath $(RUN)

coverage: $(READY)
	$(RUN) -m pytest --cov=paddlevideo --cov-report=term-missing:skip-covered

$(READY): setup.py $(VERSIONS)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + "; use make PYTHON=python3.13") if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0'
	@echo "Once, it installs about 130 packages (2 GB) into $(VENV): some minutes."
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check $(VERSIONS:%=--constraint %) --editable '.[$(EXTRAS)]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
