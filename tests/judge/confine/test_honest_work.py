"""Under all layers, honest work goes on: one child that has imported torch does all of it."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from confinement import IN_SANDBOX, Confined, inside, linux_only

from halfhour.generator.judge import bubblewrap
from halfhour.generator.judge.worker.confine import Layer

pytestmark = linux_only

WORK = Path(__file__).with_name("honest_work.py")
SOURCE = WORK.read_text(encoding="utf-8")
CHECKS = [
    node.name
    for node in ast.parse(SOURCE).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
]

RUN = f"""
import json, linecache, sys, traceback, types
source = {SOURCE!r}
linecache.cache["honest_work.py"] = (len(source), None, source.splitlines(True), "honest_work.py")
module = types.ModuleType("honest_work")
sys.modules["honest_work"] = module
exec(compile(source, "honest_work.py", "exec"), vars(module))
faults = {{}}
for name, check in list(vars(module).items()):
    if name.startswith("check_"):
        try:
            check()
            faults[name] = ""
        except BaseException:
            faults[name] = traceback.format_exc()
print()
print(json.dumps(faults))
"""


@pytest.fixture(scope="module", params=["on this machine", "inside bubblewrap"])
def faults(request: pytest.FixtureRequest, confined: Confined) -> Mapping[str, str]:
    if request.param == "on this machine":
        run = confined(RUN, layers=tuple(Layer), torch=True)
    else:
        bwrap: bubblewrap.Bubblewrap = request.getfixturevalue("bwrap")
        run = confined(RUN, layers=IN_SANDBOX, torch=True, launch=inside(bwrap))
    assert run.returncode == 0, run.stderr

    known: Mapping[str, str] = json.loads(run.stdout.splitlines()[-1])
    return known


@pytest.mark.parametrize("check", CHECKS)
def test_a_confined_worker_can_do(check: str, faults: Mapping[str, str]) -> None:
    assert faults[check] == ""
