"""What `llm_cuda.py` asks of the card: that answers, moves and journals there are those of the documentation.

Each check takes the device and a scale ("small" or "full") and returns what it found; "ok" says whether that holds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf

import blackbox_zo as bz
from oracles.llm import Examples, LabelWords, LossOracle, finetune, replay

VOCABULARY = 300
LOW_RANK = bz.RandomVector(1e-2, 2, "lowrank")
WORDS = LabelWords((5, 9))
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def llama(small: bool) -> Any:
    width, depth = (64, 2) if small else (512, 6)
    config = hf.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=depth,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.1,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return hf.LlamaForCausalLM(config)


def gpt2(small: bool) -> Any:
    width, depth = (64, 2) if small else (512, 6)
    config = hf.GPT2Config(
        vocab_size=VOCABULARY, n_embd=width, n_layer=depth, n_head=4, n_positions=128, initializer_range=0.1,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return hf.GPT2LMHeadModel(config)


def opt(small: bool) -> Any:
    width, depth = (64, 2) if small else (512, 6)
    config = hf.OPTConfig(
        vocab_size=VOCABULARY, hidden_size=width, ffn_dim=4 * width, num_hidden_layers=depth, num_attention_heads=4,
        word_embed_proj_dim=width, max_position_embeddings=128, init_std=0.1, bos_token_id=0, eos_token_id=0,
        pad_token_id=0,
    )  # fmt: skip
    return hf.OPTForCausalLM(config)


def made(kind: Any, small: bool, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    """A model of the same weights on every device."""
    torch.manual_seed(0)
    return kind(small).eval().to(dtype).to(device)


def examples(count: int = 32, seed: int = 0) -> Examples:
    draw = np.random.default_rng(seed)
    tokens = [draw.integers(10, VOCABULARY, draw.integers(12, 33)).tolist() for _ in range(count)]
    return Examples(tokens, 0, label=[int(t[-1] % 2) for t in tokens])


def bits(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().cpu().clone() for n, p in model.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[n].view(torch.uint8), b[n].view(torch.uint8)) for n in a)


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> dict[str, float]:
    """How two sets of weights differ."""
    unequal = sum(int((a[n] != b[n]).sum()) for n in a)
    largest = max(float((a[n].double() - b[n].double()).abs().max()) for n in a)
    return {"share of weights that differ": unequal / sum(t.numel() for t in a.values()), "largest": largest}


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def answers(model: Any, batch: Any, estimator: Any, sweep: Any, times: int = 1) -> tuple[list[np.ndarray], str]:
    """Values of one proposal, asked again and again; and the sweep in use with its reason."""
    proposal = bz.Search(bz.Module(model), estimator, bz.SGD(1e-3), seed=3).ask()
    oracle = LossOracle(model, [batch], WORDS, sweep)
    return [oracle.answer(proposal).values for _ in range(times)], f"{oracle.sweep} {oracle.reason}".strip()


def sweeps(device: str, small: bool) -> dict[str, Any]:
    """One batch at x + r z and x - r z: batched, by scratch, and on the CPU; then the bits of the weights."""
    out: dict[str, Any] = {"ok": True}
    batch = examples(8).batch(range(8))
    for kind in (llama, gpt2, opt):
        for name, dtype, on in (("float32", torch.float32, False), ("float32 with TF32", torch.float32, True),
                                ("bfloat16", torch.bfloat16, False), ("float16", torch.float16, False)):  # fmt: skip
            with tf32(on):
                model = made(kind, small, dtype, device)
                before = bits(model)
                (got, again), used = answers(model, batch, LOW_RANK, "auto", 2)
                (batched,), _ = answers(model, batch, LOW_RANK, "batched")
                (scratch,), _ = answers(model, batch, LOW_RANK, "scratch")
                (cpu,), _ = answers(made(kind, small, torch.float32), batch, LOW_RANK, "scratch")
            exact, largest = name == "float32", float(np.abs(cpu).max())
            allowed = (2e-5 if exact else 3e-2) * largest
            far = {"batched - scratch": batched - scratch, "scratch - fp32 on the CPU": scratch - cpu}
            found = {k: float(np.abs(v).max()) for k, v in far.items()}
            ok = max(found.values()) <= allowed and bool((got == again).all()) and same(before, bits(model))
            out[f"{kind.__name__} {name}"] = {
                **found, "allowed": allowed, "spread": float(np.ptp(cpu)), "auto takes": used,
                "the same bits again": bool((got == again).all()), "weights unchanged": same(before, bits(model)),
            }  # fmt: skip
            out["ok"] &= ok
    return out


def full_rank(device: str, small: bool) -> dict[str, Any]:
    """Signs and normals by scratch, on the card and on the CPU."""
    out: dict[str, Any] = {"ok": True}
    batch = examples(8).batch(range(8))
    for distribution in ("rademacher", "gaussian"):
        estimator = bz.RandomVector(1e-3, 2, distribution)
        model = made(llama, small, torch.float32, device)
        before = bits(model)
        (here,), _ = answers(model, batch, estimator, "scratch")
        (cpu,), _ = answers(made(llama, small), batch, estimator, "scratch")
        away = float(np.abs(here - cpu).max())
        out[distribution] = {"card - CPU": away, "weights unchanged": same(before, bits(model))}
        out["ok"] &= away <= 2e-5 * float(np.abs(cpu).max()) and same(before, bits(model))
    return out


def tuned(model: Any, steps: int, journal: Any = None, estimator: Any = None, **more: Any) -> Any:
    rule = more.pop("rule", bz.SGD(1e-3))
    return finetune(
        model, examples(), WORDS, steps=steps, rule=rule, journal=journal, batch_size=8, estimator=estimator, **more
    )


def journals(device: str, small: bool) -> dict[str, Any]:
    """A run resumed after half its steps and a replay have the bits of the run itself."""
    out: dict[str, Any] = {"ok": True}
    for name, dtype in DTYPES.items():
        for of, estimator in (("default", None), ("rademacher", bz.RandomVector(1e-2, 2, "rademacher"))):
            with tempfile.TemporaryDirectory() as folder:
                whole, halves = Path(folder, "whole.jsonl"), Path(folder, "halves.jsonl")
                model, broken = (made(llama, small, dtype, device) for _ in range(2))
                held = examples(16, 1)
                run = tuned(model, 6, whole, estimator, validation=held, measures=WORDS.measures)
                tuned(broken, 3, halves, estimator)
                resumed = made(llama, small, dtype, device)
                tuned(resumed, 6, halves, estimator)
                there, cpu = made(llama, small, dtype, device), made(llama, small, dtype)
                replay(whole, there)
                replay(whole, cpu)
            want = bits(model)
            found = {"resumed": same(want, bits(resumed)), "replayed": same(want, bits(there)),
                     "replayed on the CPU": apart(want, bits(cpu)), 
                     "moved": not same(want, bits(made(llama, small, dtype))),
                     "sweep": run.oracle.sweep, "validation": run.validation[-1][1]}  # fmt: skip
            out[f"{name} {of}"] = found
            out["ok"] &= found["resumed"] and found["replayed"] and found["moved"]
    return out


def randomness(device: str, small: bool) -> dict[str, Any]:
    """Directions and the bits of stochastic rounding are the CPU's; so is the move, with TF32 on or off."""
    from blackbox_zo.modules._rounding import halves_of, random_bits

    chunks = [(4, "w", 0), (4, "w", 64), (4, "w", 128)]
    here, cpu = (random_bits(halves_of(chunks), 640, torch.empty(1500, device=d)).cpu() for d in (device, "cpu"))
    out: dict[str, Any] = {"ok": torch.equal(here, cpu), "rounding": torch.equal(here, cpu)}
    wide = 300 if small else 3000  # several chunks
    for distribution in ("lowrank", "rademacher", "gaussian"):
        for name, dtype in DTYPES.items():
            moved = []
            for d, on in ((device, False), (device, True), ("cpu", False)):
                net = torch.nn.Linear(1024, wide)
                torch.manual_seed(0)
                torch.nn.init.normal_(net.weight)
                torch.nn.init.zeros_(net.bias)
                variable = bz.Module(net.to(dtype).to(d))
                queries = bz.RandomVector(1e-3, 1, distribution)
                drawn = queries.sample(queries.start(variable), variable, bz.Key(1, 2)).directions
                with tf32(on):
                    variable.add_(bz.Step(drawn, np.array([0.1234567])))
                moved.append(bits(net))
            found = {"TF32 makes no difference": same(moved[0], moved[1]), "card and CPU": apart(moved[0], moved[2])}
            out[f"{distribution} {name}"] = found
            out["ok"] &= found["TF32 makes no difference"] and found["card and CPU"]["largest"] < 0.02
    return out


def reuse(device: str, small: bool) -> dict[str, Any]:
    """The upper layers and the top alone: the losses with features, with kept ones, and without are the same.

    At a low learning rate: a long step makes of differences in the seventh digit some in the third.
    """
    out: dict[str, Any] = {"ok": True}
    for name, dtype in DTYPES.items():
        for select in ("top", rf"layers\.{1 if small else 5}\."):
            values, used = [], []
            for how in (False, True, "keep"):
                run = tuned(made(llama, small, dtype, device), 6, module=select, reuse=how, rule=bz.SGD(1e-6))
                values.append(np.array([report.value for report in run.reports]))
                cache = run.oracle.features
                used.append(cache is not None and cache.trunk is not None)
            kept = {str(row.device) for row in cache.rows.values()}
            away = max(float(np.abs(v - values[0]).max()) for v in values[1:])
            found = {"away": away, "features used": used, "kept": len(cache.rows), "kept on": sorted(kept)}
            out[f"{name} {select}"] = found
            out["ok"] &= used == [False, True, True] and away < (1e-4 if name == "float32" else 0.1) and bool(kept)
    return out


CHECKS = (sweeps, full_rank, journals, randomness, reuse)
