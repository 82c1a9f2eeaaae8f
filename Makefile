# Everything sets itself up: `make run` and `make test` need only Python 3.11+ and make.
PYTHON ?= python3
PY = .venv/bin/python
READY = .venv/.ready
# in containers everything runs as root, which Jupyter asks to confirm
AS_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)
# the kernel of a closed page (0.6 GB) ends
CULLING = --MappingKernelManager.cull_idle_timeout=60 --MappingKernelManager.cull_interval=20
# the notebooks' tests, with one thread, because two programs run side by side
SMALL = LABOR_RUN=small OMP_NUM_THREADS=1
NBMAKE = $(SMALL) $(PY) -m pytest -q --nbmake --nbmake-timeout=360
SOLUTIONS = $(SMALL) $(PY) -m tools.solutions

.PHONY: run table camvid arena family lab dashboard annotate notebooks slides test test-unit test-notebooks \
	test-streets test-family test-browser test-package lint bench clean

run: $(READY)  ## one seed of the main methods on the embedded streets, with report
	$(PY) -m labor_lib run --preset streets

table: $(READY)  ## every method, five seeds, and four with wrong answers; continues where it was stopped
	$(PY) -m labor_lib run --preset streets --methods all --seeds 0-4
	$(PY) -m labor_lib results runs/streets --short README.md --pictures docs
	$(PY) -m labor_lib run --preset streets --methods random_points,ppl,random_pixels,spl_sampled --seeds 0-2 \
		--annotator noisy --out runs/streets-noisy

# the strategies that are compared at 40 points
ARENA = default,rare_margin_spaced,rare_margin_spaced_filled,rare_margin_spaced_regions,rare_margin_spaced_pseudo,margin_filled,ppl_random,weak_points,entropy,discrepancy,balanced_margin,ripu_points,core_set

# the folder of the CamVid images; `python -m labor_lib data camvid` fetches it
CAMVID ?= data/camvid

camvid: $(READY)  ## drawn streets -> photographs, and photographs by day -> at dusk; CAMVID=folder
	$(PY) -m labor_lib run --preset camvid --target-root $(CAMVID)
	$(PY) -m labor_lib run --preset camvid-dusk --target-root $(CAMVID)

arena: $(READY)  ## ways to choose points at equal budgets, on scenes of their own; continues where stopped
	$(PY) -m labor_lib arena --preset streets --scene-seed 200 --budgets 40 --seeds 0-2 \
		--strategies $(ARENA)
	$(PY) -m labor_lib arena --preset streets --scene-seed 200 --budgets 40 --seeds 3-4 \
		--strategies random,margin,margin_spaced,ppl,rare_margin_spaced
	$(PY) -m labor_lib arena --preset streets --scene-seed 200 --budgets 10,20 --seeds 0-2 \
		--strategies random,margin,margin_spaced,ppl

family: $(READY)  ## image classification: every method and shift, five seeds; continues where stopped
	$(PY) -m labor_lib family --shift textured --methods all --few 1,5 --seeds 0-4
	$(PY) -m labor_lib family --shift fonts --methods all --seeds 0-4
	$(PY) -m labor_lib family --shift styles --methods all --seeds 0-4

lab: $(READY)  ## the notebooks, in JupyterLab, on this machine only
	$(PY) -m jupyterlab --ServerApp.ip=127.0.0.1 $(AS_ROOT) notebooks/00_start_here.ipynb

dashboard: $(READY)  ## the result of a run, its pictures and numbers as a page, on this machine only
	$(PY) -m voila notebooks/dashboard.ipynb --Voila.ip=127.0.0.1 --port=8866 $(CULLING)

# the folder of a project, or of another run that asks people; answers are kept under the name ANNOTATOR
FOLDER ?=
ANNOTATOR ?= you

annotate: $(READY)  ## answer a run's questions on a page, on this machine only; FOLDER=folder ANNOTATOR=name
	@test -e "$(FOLDER)/store.sqlite" || \
		{ echo "FOLDER='$(FOLDER)': holds no store.sqlite; give the folder of a project, as in FOLDER=mine"; exit 2; }
	folder="$$(cd "$(FOLDER)" && pwd)" && \
	LABOR_FOLDER="$$folder" LABOR_ANNOTATOR="$(ANNOTATOR)" \
	$(PY) -m voila notebooks/annotate.ipynb --Voila.ip=127.0.0.1 --port=8867 $(CULLING)

notebooks: run family  ## run all notebooks with the finished runs, keep their outputs and minutes
	$(PY) -m tools.notebooks

slides: $(READY)  ## slides of the notebooks' figures and first sentences, into slides/
	$(PY) -m tools.slides

test: $(READY)  ## all tests: first what can run side by side, then what a browser waits for
	$(MAKE) -j2 test-streets test-family test-unit
	$(MAKE) test-browser

test-package: $(READY)  ## build the package, install it, run it from an empty folder
	LABOR_PACKAGE=must $(PY) -m pytest -q tests/test_package.py

test-unit: $(READY) lint
	$(PY) -m pytest -q tests --ignore=tests/browser

test-notebooks: $(READY)  ## every notebook and solution, at the small preset
	$(MAKE) -j2 test-streets test-family

# each half in order: its first notebooks train what the later ones open, and a run's folder is
# locked while one trains
test-streets: $(READY)
	$(NBMAKE) notebooks/0*.ipynb notebooks/deeper/0*.ipynb notebooks/11*.ipynb
	$(SOLUTIONS) notebooks/solutions/0*.ipynb notebooks/solutions/11*.ipynb

test-family: $(READY)  ## with the photographs, whose small run is another one
	$(NBMAKE) notebooks/1[02-9]*.ipynb notebooks/deeper/1*.ipynb
	$(SOLUTIONS) notebooks/solutions/1[02-9]*.ipynb

test-browser: $(READY)  ## JupyterLab and the dashboard, driven in Chromium
	LABOR_RUN=small $(PY) -m pytest -q tests/browser

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

bench: $(READY)  ## time per step, stage and click on this machine
	$(PY) -m benchmarks.steps
	$(PY) -m benchmarks.widgets
	$(PY) -m benchmarks.family
	$(PY) -m benchmarks.selection

$(READY): requirements.txt pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install -q -r requirements.txt -e .
	touch $(READY)

clean:  ## drawn data and runs; the environment stays
	rm -rf runs data/streets-*
