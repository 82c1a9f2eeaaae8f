# Everything sets itself up: `make run` and `make test` need only Python 3.11+ and make.
PYTHON ?= python3
PY = .venv/bin/python
READY = .venv/.ready

.PHONY: run table camvid report test test-unit lint bench clean

run: $(READY)  ## one seed of the main methods on the embedded streets, with report
	$(PY) -m labor_lib run --preset streets

table: $(READY)  ## every method, five seeds; goes on where it was stopped
	$(PY) -m labor_lib run --preset streets --methods all --seeds 0-4
	$(PY) -m labor_lib readme runs/streets --pictures docs

camvid: $(READY)  ## streets -> real photographs; CAMVID=folder of the CamVid images
	$(PY) -m labor_lib run --preset camvid --target-root $(CAMVID)

test: test-unit

test-unit: $(READY) lint
	$(PY) -m pytest -q

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

bench: $(READY)  ## time per step and per stage on this machine
	$(PY) -m benchmarks.steps

$(READY): requirements.txt pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install -q -r requirements.txt -e .
	touch $(READY)

clean:  ## drawn data and runs; the environment stays
	rm -rf runs data/streets-*
