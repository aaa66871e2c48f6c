# Two commands matter: `make repro` and `make test`. Both set up .venv first where that is needed.
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help repro everything test lab

help:
	@echo "make repro       run what the main tables need and is not up to date, then show the first"
	@echo "make everything  run every row and table, for hours"
	@echo "make test        check style and imports, run the tests"
	@echo "make lab         open the notebooks in JupyterLab, the index first"
	@echo "JOBS=8 runs eight stages side by side; otherwise as many as there are cores."
	@echo "All of them set up $(VENV) first where needed; by hand afterwards: source $(VENV)/bin/activate"

# --here: to reproduce is to run it, though dvc.lock says that it has run elsewhere.
RUN := @$(VENV)/bin/python -m fasa run --here $(if $(JOBS),--jobs $(JOBS))
SHOW := @$(VENV)/bin/python -m fasa report
# of params.yaml, the main table's two first
ROWS = $(shell $(VENV)/bin/python -c "from fasa.params import read_params as r; p = r('params.yaml'); print(*(row for row in p.repro if row in p.run.rows))" 2>/dev/null)
evaluated = $(foreach row,$(1),'train@*-$(row)-*' 'evaluate@*-$(row)-*')

repro: $(VENV)/.ready
	$(RUN) --only plan 'data@*' 'pretrain@*' 'warmup@*' 'cluster@*' $(call evaluated,$(wordlist 1,2,$(ROWS))) 'report@*'
	$(SHOW)
	$(RUN) --only $(call evaluated,$(ROWS)) 'report@*'
	$(SHOW)

everything: $(VENV)/.ready
	$(RUN)
	$(SHOW)

test: $(VENV)/.ready
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/pytest -n auto

lab: $(VENV)/.ready
	@$(VENV)/bin/jupyter lab --LabApp.default_url=/lab/tree/notebooks/00_index.ipynb

# The stamp is set-up's last act: one that was interrupted is taken up again. It says where .venv lay, since scripts in it
# name that place: a checkout that was moved is set up anew.
.PHONY: moved
$(VENV)/.ready: constraints.txt pyproject.toml $(if $(filter-out $(realpath $(VENV)),$(file <$(VENV)/.ready)),moved)
	@./setup.sh
