"""Each tutorial runs, in little time, and shows what it promises."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SECONDS = 240
"""Far more than any takes, for a machine that is busy."""

NEEDS = {"08_torch": ["torch"]}
NEEDS |= {name: ["torch", "transformers"] for name in ("11_language_model", "23_larger_than_memory")}
NEEDS["24_tune_a_gguf_file"] = ["torch", "transformers", "gguf"]
NEEDS["25_two_processes"] = ["torch", "transformers"]
NEEDS |= {name: ["gymnasium", "cloudpickle"] for name in ("13_cartpole", "14_custom_simulator")}
NEEDS["15_swimmer_and_cheetah"] = ["gymnasium", "cloudpickle", "mujoco"]
NEEDS["19_inside_nevergrad_and_optuna"] = ["nevergrad", "optuna"]
NEEDS["20_hyper_parameters"] = ["sklearn"]
NEEDS["16_lunar_lander"] = ["gymnasium", "cloudpickle", "Box2D"]

SHOWS = {
    "01_minimize": r"blackbox_zo:  f = (0\.00e\+00|\d\.\d+e-(0[89]|[123]\d)) after 1500 calls[\s\S]*scipy: True",
    "02_noise_and_failures": r"of which (1|2|3)\d\d failed[\s\S]*out: True[\s\S]*status 4, `fun` raised RuntimeError",
    "03_ask_tell": r"any order give the same run: True\n.*400 answers, f = \d\.\de-0[3-9]",
    "04_rankings": r"all eight: after 640 candidates, distance 0\.[0-2][\s\S]*agree: True\nCannot use `RandomVector`",
    "05_structured_x0": r"-> 0\.000\d\d; weight has shape \(3, 2\)\nwithin bounds: a = 0\.7000",
    "06_resume": r"signal 9; the journal holds 122 answers\nresumed: 178 new calls, 300 in all\n.*never killed: True",
    "07_gradients": r"coordinatewise +16 +\d\.\d+e-(0[6-9]|1\d)[\s\S]*all unbiased",
    "08_torch": r"settings chosen: \[(3\.0|2\.99\d|3\.00\d), -(1\.0|0\.99\d|1\.00\d)\]",
    "09_command": r"80 runs, [1-9]\d* failed; best loss 0\.0[\s\S]*depth = 6, kind = fancy",
    "10_new_estimator": r"keeps the laws[\s\S]*and Backwards does not: `Backwards",
    "11_language_model": r"before: .* 4\d%[\s\S]*after 300 steps: loss 0\.[56]\d\d, [67]\d% right[\s\S]*bit: True",
    "12_steer_pictures": r"first poster: \d\d\.\d % off[\s\S]*after \d+ comparisons of two\nthree such people: ",
    "13_cartpole": r"episodes: (4[5-9]\d|500) of 500\n.*at all: True\n.*by hand: (4\d\d|500)\n.*the same: True",
    "14_custom_simulator": r"[1-9]\d* of 1\d\d candidates[\s\S]*the first, -[0-3]\.\d in the last\n.*, (59|60|61) ",
    "15_swimmer_and_cheetah": r"Swimmer-v5: .* after 64 episodes[\s\S]*HalfCheetah-v5: -.*, [1-9][\s\S]*\[\(6, 17\)\]",
    "17_new_kind": r"holds 12 steps of[\s\S]*learnt the same of the wind: True[\s\S]*30/30: [\s\S]*both.png: 2 runs",
    "18_many_workers": r"asynchronous: 64 [\s\S]*64 runs [2-6]\d were stopped; [1-4]\d\d of 576 epochs\n.*\[\[1.0, ",
    "19_inside_nevergrad_and_optuna": r"BlackboxZO +misfit \d\.\de-[123]\d[\s\S]*'k1': 0.35, 'k2': 0.12, 'a0': 4\.0"
    r"[\s\S]*Sampler +misfit \d\.\de-[123]\d[\s\S]*in parts, the same trials: True",
    "20_hyper_parameters": r"accuracy of the start 0\.9\d\d, of the best 0\.9[56]\d[\s\S]*unseen images: True True",
    "21_noisy_simulator": r"cost \d+\.\d\d ± 0\.\d\d[\s\S]*1,500 days cost 8\."
    r"[\s\S]*start: True; within three standard errors: True",
    "22_640_dimensions": r"calls it is 1\.545\d+\n  QuasiNewton: [\s\S]*rest: True\n.*table.* [1-9]\d points .*: True",
    "23_larger_than_memory": r"loss 0\.71\d before, (0\.[56]\d+) after\nstreamed, \d of .*: \1 after\n.*bit: True"
    r"\nstreamed, .* held as int8, relative error 0\.00\d",
    "24_tune_a_gguf_file": r"scales: loss 0\.758 before, 0\.6\d\d after\ncodes: loss 0\.758 before, 0\.7[0-4]\d after\n"
    r"llama.cpp (gives the same logits to [0-3]%|is not here)",
    "25_two_processes": r"1 ranks: loss (0\.\d+) before, (0\.\d+) after 200[\s\S]*2 ranks: loss \1 before, \2 after"
    r"[\s\S]*sent 16 bytes[\s\S]*byte: True",
    "16_lunar_lander": r"36 par[\s\S]*after step 7\n.* 588 ep.*\n.* 882 ep.*\n-\d+ before, -?\d+ after; ",
}


def test_every_tutorial_is_listed() -> None:
    assert sorted(SHOWS) == sorted(path.stem for path in (ROOT / "tutorials").glob("[0-9]*.py"))


@pytest.mark.parametrize("name", SHOWS)
def test_tutorial(name: str, tmp_path: Path) -> None:
    for needed in NEEDS.get(name, ()):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    if name == "16_lunar_lander" or "transformers" in NEEDS.get(name, ()):  # importing it has warnings of its own
        del environment["PYTHONWARNINGS"]
    script = ROOT / "tutorials" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(SHOWS[name], done.stdout), done.stdout
    assert list(tmp_path.iterdir()) == [], "a tutorial leaves nothing behind"
    assert len(script.read_text("utf-8").splitlines()) <= 70, "a tutorial is short"
