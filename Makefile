# SPDX-License-Identifier: GPL-2.0-or-later
# Calls the tools; what they do is in image-tests/lab and pyproject.toml.
.DEFAULT_GOAL := help
.PHONY: help run test image check bench dev clean host
export PYTHONPATH := image-tests
PYTHON := build/venv/bin/python
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)

help: ## show this list
	@echo "Sluice. Set MIRROR= and SECURITY_MIRROR= to use other Debian mirrors than apt does."
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

host: # Python, packages, virtual environment; done at once when they are there
	@test -x /usr/bin/python3 || { $(SUDO) apt-get -q update && $(SUDO) apt-get -q install --yes --no-install-recommends python3; }
	@/usr/bin/python3 -m lab.host

run: image ## build the image and start it in QEMU, with a client and two web servers
	@$(PYTHON) -m lab.run

test: host ## everything: checks, image, network tests, image tests
	@$(PYTHON) -m lab.suite

image: host ## build the image: build/sluice_VERSION.raw and its companions
	@$(PYTHON) -m lab.build

check: host ## format, lint, types, import floors, sandboxes, unit tests
	@$(PYTHON) -m lab.check

bench: image ## measure Sluice beside its peers: docs/benchmarks.md, build/bench.json
	@$(PYTHON) -m lab.bench $(ROWS)

dev: host ## run agent and GUI from this folder, in network namespaces
	@$(PYTHON) -m lab.dev

clean: ## remove build/ (the cache folder stays)
	rm -rf build
