"""More of what `llm_cuda.py` asks of the card: selections, objectives, the Trainer, and a card that is full."""

from __future__ import annotations

import copy
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _cuda_checks import LOW_RANK, VOCABULARY, WORDS, answers, bits, examples, llama, made, opt, same, tuned

import blackbox_zo as bz
from oracles.llm import Examples, Generation, HybridOracle, finetune


def selections(device: str, small: bool) -> dict[str, Any]:
    """What is not selected keeps its bits; masks, blocks, no decay; adapters of peft."""
    out: dict[str, Any] = {"ok": True}

    def adapted(small: bool) -> Any:
        from peft import LoraConfig, get_peft_model

        return get_peft_model(llama(small), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))

    cases: dict[str, tuple[Any, dict[str, Any]]] = {
        "bias": (opt, {"module": "bias"}),
        "top": (llama, {"module": "top"}),
        "lora": (adapted, {"module": "lora"}),
        "n_blocks": (llama, {"estimator": bz.RandomVector(1e-2, 2, "lowrank", n_blocks=2)}),
        "adam": (llama, {"module": "top", "rule": bz.Adam(1e-3)}),
    }
    for name, (kind, more) in cases.items():
        try:
            model = made(kind, small, torch.bfloat16 if name == "n_blocks" else torch.float32, device)
            before = bits(model)
            run = tuned(model, 3, **more)
            chosen, after = set(run.search.variable.parameters), bits(model)
            rest = {n: t for n, t in before.items() if n not in chosen}
            ok = same(rest, after) and not same(before, after) and all(np.isfinite(r.value) for r in run.reports)
            out[name] = {"ok": ok, "searched": len(chosen), "sweep": run.oracle.sweep, "reason": run.oracle.reason}
        except Exception as error:
            ok, out[name] = False, f"{type(error).__name__}: {error}"
        out["ok"] &= ok
    model = made(llama, small, torch.float32, device)
    masked = bz.Module(model, mask=0.75, no_decay="norm")
    run = tuned(model, 3, module=masked, estimator=bz.RandomVector(1e-2, 2, "rademacher"))
    out["mask"] = [r.value for r in run.reports]
    return out


class Letters:
    """As much of a tokenizer as `Generation` needs."""

    pad_token_id = eos_token_id = 0

    def decode(self, row: list[int], skip_special_tokens: bool = True) -> str:
        return " ".join(f"w{i}" for i in row if i)


def generated(device: str, small: bool) -> dict[str, Any]:
    """A text that the model writes, as an objective, on the card and on the CPU."""
    held = examples(8)
    prompts = Examples(held.tokens, 0, reference=["w1"] * 8)
    written = Generation(Letters(), lambda text, _: len(set(text.split())) / 8)
    values, texts = [], []
    for d in (device, "cpu"):
        model = made(llama, small, torch.float32, d)
        run = finetune(model, prompts, written, steps=2, rule=bz.SGD(1e-3), batch_size=8,
                       estimator=bz.RandomVector(0.1, 2, "lowrank"), validation=prompts)  # fmt: skip
        values.append([r.value for r in run.reports])
        texts.append(run.validation[0][1]["loss"])
    ok = abs(values[0][0] - values[1][0]) < 0.1 and abs(texts[0] - texts[1]) < 0.1
    return {"ok": ok, "card": values[0], "CPU": values[1], "validation": texts, "sweep": run.oracle.sweep}


def hybrid(device: str, small: bool) -> dict[str, Any]:
    """Autograd above: a search that loads another's state goes on to the same bits."""
    ends = []
    for broken in (False, True):
        model = made(llama, small, torch.float32, device)

        def parts(model: Any) -> tuple[HybridOracle, bz.Search]:
            top = torch.optim.AdamW(model.model.norm.parameters(), lr=1e-2)
            oracle = HybridOracle(model, examples().shuffled(8), WORDS, top)
            below = bz.Module(model, r"layers\.0\.")
            return oracle, bz.Search(below, bz.RandomVector(1e-2, 2, "lowrank"), bz.SGD(1e-2))

        oracle, search = parts(model)
        list(search.run(oracle, steps=2))
        if broken:
            state = copy.deepcopy(search.state_dict())
            model = made(llama, small, torch.float32, device)
            oracle, search = parts(model)
            search.load_state_dict(state)
        reports = list(search.run(oracle, steps=2))
        ends.append(bits(model))
    return {"ok": same(*ends), "value": reports[-1].value}


def trainer(device: str, small: bool) -> dict[str, Any]:
    """In place of transformers' Trainer, resumed from a checkpoint."""
    from oracles.llm import ZOTrainer, ZOTrainingArguments

    rows = [{"input_ids": t[:12], "attention_mask": [1] * 12, "labels": t[:12]} for t in examples().tokens]
    ends = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for steps, checkpoint in ((4, None), (4, "checkpoint-2")):
            model = made(llama, small)
            args = ZOTrainingArguments(folder, max_steps=steps, save_steps=2, report_to=[], learning_rate=1e-4,
                                       use_cpu=device == "cpu", disable_tqdm=True,
                                       lr_scheduler_type="constant")  # fmt: skip
            found = ZOTrainer(model, args, train_dataset=rows)
            found.train(resume_from_checkpoint=checkpoint and str(Path(folder, checkpoint)))
            ends.append(bits(model))
        place = str(next(model.parameters()).device)
    return {"ok": same(*ends) and place.startswith(device), "device": place, "sweep": found.oracle.sweep,
            "reason": found.oracle.reason}  # fmt: skip


def default_device(device: str, small: bool) -> dict[str, Any]:
    """`torch.set_default_device` changes nothing."""
    ends = []
    for on in (False, True):
        model = made(llama, small, torch.float32, device)
        if on:
            torch.set_default_device(device)
        try:
            tuned(model, 3, validation=examples(8))
        finally:
            torch.set_default_device(None)
        ends.append(bits(model))
    return {"ok": same(*ends)}


def memory_runs_out(device: str, small: bool) -> dict[str, Any]:
    """Runs are halved, with a warning, and the answers are the same."""
    if device == "cpu":
        return {"ok": True, "note": "for a card only"}
    model = made(llama, False, torch.float32, device)
    rows = 4096
    batch = {"input_ids": torch.randint(10, VOCABULARY, (rows, 64), device=device),
             "attention_mask": torch.ones(rows, 64, dtype=torch.int64, device=device),
             "label": torch.zeros(rows, dtype=torch.int64, device=device)}  # fmt: skip
    (want,), _ = answers(model, batch, LOW_RANK, "batched")
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + (1 << 30)) / total)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            (got,), _ = answers(model, batch, LOW_RANK, "batched")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    away = float(np.abs(got - want).max())
    return {"ok": away < 1e-4 and bool(said), "away": away, "said": [str(w.message)[:80] for w in said]}


USES = (selections, generated, hybrid, trainer, default_device, memory_runs_out)
