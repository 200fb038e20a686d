# SPDX-License-Identifier: GPL-2.0-or-later
"""The command `compile`: what a document would be in the kernel, without an agent and beside one."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli import main
from agent.tests.api_world import FARM, World
from agent.tests.command_line import ROOT, at_hand, document, run


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with at_hand(tmp_path, monkeypatch) as found:
        yield found


def test_compile_needs_no_agent(tmp_path: Path):
    done = run("compile", document(tmp_path, {"farms": {"web": FARM}}))
    assert done.returncode == 0, done.stderr
    assert "table inet sluice" in done.stdout
    assert "192.0.2.21" in done.stdout
    structured = json.loads(run("compile", "--json", document(tmp_path, {"farms": {"web": FARM}})).stdout)
    assert structured["script"] == done.stdout
    assert structured["farms"]["web"]["shares"] == {"web1": 0.5, "web2": 0.5}
    values = [element["value"] for elements in structured["sets"].values() for element in elements]
    assert any("192.0.2.22" in value for value in values)


def test_compile_shows_the_difference_that_a_commit_would_make(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    world.client().put_farm("web", FARM)
    assert main(["compile", "--difference", document(tmp_path, {"farms": {"web": FARM}})]) == 0
    assert capsys.readouterr().out == "# The kernel holds this already.\n"
    assert main(["compile", "--difference", document(tmp_path, {"farms": {}})]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "delete element inet sluice services4 { 192.0.2.10 . tcp . 80 }" in lines
    assert main(["compile", "--difference", "--json", document(tmp_path, {"farms": {}})]) == 0
    assert json.loads(capsys.readouterr().out)["difference"].splitlines() == lines
    assert main(["compile", "--difference", document(tmp_path, {"farms": {"web": {}}})]) == 1
    assert "/farms/web/ports" in capsys.readouterr().err
    assert world.client().configuration().snapshot == 2


def test_compile_reads_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"{}")))
    assert main(["compile", "-"]) == 0
    assert "table inet sluice" in capsys.readouterr().out


def test_compile_prints_one_fault_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compile", document(tmp_path, {"colour": 1, "farms": {"web": {}}})]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    places = [line.split(":")[0] for line in captured.err.splitlines()]
    assert places == ["/colour", "/farms/web/addresses", "/farms/web/ports"]
    assert main(["compile", "--json", document(tmp_path, [])]) == 1
    assert json.loads(capsys.readouterr().out) == {"errors": [{"pointer": "", "detail": "must be an object"}]}
    assert main(["compile", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path):
    name = document(tmp_path, {"farms": {f"farm-{n}": {**FARM, "ports": [n + 1]} for n in range(300)}})
    with subprocess.Popen(
        [sys.executable, "-m", "agent", "compile", name],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        process.wait(60)
    assert errors == b""
