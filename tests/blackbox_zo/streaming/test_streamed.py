"""A streamed model gives `Module`'s numbers to the last bit, whatever stays in memory and whenever moves are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import blackbox_zo as bz
from blackbox_zo.checkpoints import absent
from oracles.llm._evaluate import Evaluator
from tests.blackbox_zo.streaming.models import (
    MODELS,
    V,
    loaded,
    same_weights,
    saved,
    search_of,
    transformers,
    values_of,
)

LOWRANK = bz.RandomVector(1e-3, 2, "lowrank")
GAUSSIAN = bz.RandomVector(1e-3, 2, "gaussian")


@pytest.mark.parametrize("estimator", [LOWRANK, GAUSSIAN], ids=["low rank", "gaussian"])
@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_has_modules_numbers(name: str, estimator: bz.Estimator, tmp_path: Path) -> None:
    """Values and weights after three steps, and the fingerprint at the start."""
    folder = saved(name, tmp_path / "model")
    model = loaded(name, folder)
    want = bz.Module(model)
    with bz.StreamedModule.from_pretrained(folder) as x:
        assert x.fingerprint() == want.fingerprint()
        assert x.describe() == want.describe()
        assert values_of(name, x, estimator, 3) == values_of(name, want, estimator, 3)
        assert same_weights(x, model)
        assert x.fingerprint() == want.fingerprint()


def test_under_autocast(tmp_path: Path) -> None:
    """A caller's autocast holds for all passes."""
    folder = saved("llama", tmp_path / "model")
    model = loaded("llama", folder)
    with torch.autocast("cpu", dtype=torch.bfloat16), bz.StreamedModule.from_pretrained(folder) as x:
        values = values_of("llama", x, LOWRANK, 3)
        assert values == values_of("llama", bz.Module(model), LOWRANK, 3)
        assert same_weights(x, model)
    assert values != values_of("llama", bz.Module(loaded("llama", folder)), LOWRANK, 3)


MORE: dict[str, Any] = {"unit": {"mlp": 0.5}, "no_decay": "norm"}
RULE = bz.chain(bz.WeightDecay(0.1), bz.SGD(1e-3))


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def fifty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, list[float]]:
    """A folder, and what 52 steps in memory make of the model in it."""
    folder = saved("llama tied", tmp_path_factory.mktemp("fifty") / "model", request.param)
    model = loaded("llama tied", folder, request.param)
    return folder, model, values_of("llama tied", bz.Module(model, **MORE), LOWRANK, 52, rule=RULE)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"log_structured": True},
        {"budget": "300kB"},
        {"budget": "300kB", "log_structured": True},
        {"store": "host"},
        {"budget": "1GB"},
    ],
    ids=str,
)
def test_fifty_steps_to_the_same_bits(how: dict[str, Any], fifty: tuple[Path, Any, list[float]]) -> None:
    """With weight decay, units and parameters without decay."""
    folder, model, values = fifty
    with bz.StreamedModule.from_pretrained(folder, **how, **MORE) as x:
        assert values_of("llama tied", x, LOWRANK, 52, rule=RULE) == values
        assert same_weights(x, model)


def test_a_step_reads_each_block_once(tmp_path: Path) -> None:
    """However many passes its queries take; and a log-structured one writes nothing for 16 moves."""
    folder = saved("llama", tmp_path / "model")
    with bz.StreamedModule.from_pretrained(folder, log_structured=True) as x:
        search, oracle = search_of("llama", x, LOWRANK)
        run = iter(search.run(oracle, steps=9))
        next(run)  # it checks more than later ones
        next(run)
        before = dict(x.streamer.ring.fetches)
        for _ in range(5):
            next(run)
        x.streamer.ring.reader.submit(int).result()  # what is being fetched for the next step
        for entry in x.entries[1:]:
            assert x.streamer.ring.fetches[entry.number] - before[entry.number] in (4, 5, 6), entry.name
            assert x.store.version(entry) == 0


def test_the_next_block_is_on_its_way(tmp_path: Path) -> None:
    """As soon as one is there; after a look back, the one that came next when the two before were the same."""
    folder = saved("llama", tmp_path / "model")
    with bz.StreamedModule.from_pretrained(folder) as x:
        ring, (_, a, b, c, *_) = x.streamer.ring, x.entries
        for entry, following in ((a, b), (b, c), (c, None), (b, None), (a, None), (b, c), (a, None)):
            ring.take(entry)
            there = [slot.entry for slot in ring.slots if slot.entry not in (None, entry)]
            assert following is None or there == [following]


def test_a_validation_reads_each_block_once(tmp_path: Path) -> None:
    """Whatever its batches and measures."""
    folder = saved("llama", tmp_path / "model")
    causal = MODELS["llama"][1]
    with bz.StreamedModule.from_pretrained(folder) as x:
        batches = [{"input_ids": torch.randint(1, V, (4, 8))} for _ in range(4)]
        measure = Evaluator(x.model, batches, {"one": causal, "two": causal}, x)
        before = dict(x.streamer.ring.fetches)
        measure()
        x.streamer.ring.reader.submit(int).result()
        for entry in x.entries[1:]:
            assert x.streamer.ring.fetches[entry.number] - before.get(entry.number, 0) in (1, 2), entry.name


def test_what_fits_stays(tmp_path: Path) -> None:
    """A budget is used: nothing is read twice where all fits, and the variable says so."""
    folder = saved("llama", tmp_path / "model")
    with bz.StreamedModule.from_pretrained(folder, budget="1GB") as x:
        values_of("llama", x, LOWRANK, 3)
        assert not x.streamer.ring.fetches
        assert "nothing is streamed" in str(x)
    with bz.StreamedModule.from_pretrained(folder, budget="500kB") as x:
        values_of("llama", x, LOWRANK, 3)
        assert 0 < len(x.plan.kept) < len(x.entries)
        assert x.plan.total <= 500_000


def test_on_a_cpu_weights_in_memory_are_used_as_they_are(tmp_path: Path) -> None:
    """The store's memory is what the model reads, within any budget."""
    folder = saved("llama", tmp_path / "model")
    model = loaded("llama", folder)
    values = values_of("llama", bz.Module(model), LOWRANK, 4)
    with bz.StreamedModule.from_pretrained(folder, store="host", budget="3kB", log_structured=True) as x:
        assert "in memory, where the model runs: nothing is streamed" in str(x)
        assert values_of("llama", x, LOWRANK, 4) == values
        assert same_weights(x, model)
        for entry in x.entries:
            place = x.store.place(entry)
            assert place is not None and entry.parameters[0].data_ptr() == place.data_ptr()
        assert not x.streamer.ring.fetches and x.plan.total <= 3000


def test_moves_are_never_lost(tmp_path: Path) -> None:
    """By evaluation, generation, saving and the end of a run, whether they were written back or not."""
    folder = saved("llama", tmp_path / "model")
    model = loaded("llama", folder)
    values_of("llama", bz.Module(model), LOWRANK, 3)
    ids = torch.arange(1, 9)[None]
    with bz.StreamedModule.from_pretrained(folder, log_structured=True) as x, torch.no_grad():
        streamed: Any = x.model
        values_of("llama", x, LOWRANK, 3)
        assert torch.equal(streamed(input_ids=ids).logits, model(input_ids=ids).logits)
        made = [m.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0) for m in (streamed, model)]
        assert torch.equal(*made)
        streamed.save_pretrained(tmp_path / "saved")
        x.settle()
        assert all(x.store.version(entry) == 3 for entry in x.entries)
        assert torch.equal(streamed(input_ids=ids).logits, model(input_ids=ids).logits)
    again = loaded("llama", tmp_path / "saved")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_saved_experts_and_renamed_weights_load_again(tmp_path: Path) -> None:
    """With the names of the model, which transformers takes."""
    for name in ("mixtral, stacked experts", "gpt-neox, renamed weights"):
        folder = saved(name, tmp_path / name)
        with bz.StreamedModule.from_pretrained(folder) as x:
            streamed: Any = x.model
            streamed.save_pretrained(tmp_path / f"{name} again")
        again, model = loaded(name, tmp_path / f"{name} again"), loaded(name, folder)
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_state_goes_in_and_out(tmp_path: Path) -> None:
    """A checkpoint of a streamed variable is one of `Module`'s, and the other way round."""
    folder = saved("llama", tmp_path / "model")
    model = loaded("llama", folder)
    want = bz.Module(model)
    values_of("llama", want, LOWRANK, 2)
    with bz.StreamedModule.from_pretrained(folder, budget="400kB") as x:
        x.load(want.state(), want.version)
        assert same_weights(x, model)
        assert values_of("llama", x, LOWRANK, 2) == values_of("llama", want, LOWRANK, 2)
        assert same_weights(x, model)
        with pytest.raises(ValueError, match="no parameter"):
            x.load({}, 1)
        before = x.fingerprint()
        with pytest.raises(ValueError, match="no parameter"):
            x.load({name: array.astype("float64") for name, array in want.state().items()}, 1)
        assert x.fingerprint() == before


def test_only_what_is_selected_moves_or_is_written(tmp_path: Path) -> None:
    """Blocks below are read, and never written."""
    folder = saved("llama", tmp_path / "model")
    model = loaded("llama", folder)
    want = bz.Module(model, "top:2")
    with bz.StreamedModule.from_pretrained(folder, select="top:2") as x:
        assert values_of("llama", x, LOWRANK, 3) == values_of("llama", want, LOWRANK, 3)
        assert same_weights(x, model)
        assert sum(x.store.version(entry) > 0 for entry in x.entries) == 2


@pytest.mark.parametrize("mask", [0.75, lambda name, p: p > 0], ids=["share", "function"])
def test_masks_are_those_of_the_weights(mask: Any, tmp_path: Path) -> None:
    """The threshold of a share follows from each matrix, which is read for it."""
    folder = saved("llama", tmp_path / "model")
    model = loaded("llama", folder)
    want = bz.Module(model, mask=mask)
    with bz.StreamedModule.from_pretrained(folder, mask=mask, budget="300kB") as x:
        assert x.fingerprint() == want.fingerprint()
        assert values_of("llama", x, GAUSSIAN, 3) == values_of("llama", want, GAUSSIAN, 3)
        assert same_weights(x, model)


@pytest.mark.parametrize("select", ["all", "top:2"])
def test_what_stays_is_read_once(select: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it moves or not."""
    folder = saved("llama", tmp_path / "model")
    with bz.StreamedModule.from_pretrained(folder, select=select, budget="500kB") as x:
        reads: list[int] = []
        own = x.store.find

        def find(entry: Any, *more: Any) -> Any:
            reads.append(entry.number)
            return own(entry, *more)

        monkeypatch.setattr(x.store, "find", find)
        values_of("llama", x, LOWRANK, 4)
        assert x.plan.kept
        assert all(reads.count(number) == 1 for number in x.plan.kept)


def test_what_is_not_there_is_nan_and_afterwards_nothing_is_left(tmp_path: Path) -> None:
    """No parameter is on meta; hooks, files and the model's `save_pretrained` are as before."""
    folder = saved("llama", tmp_path / "model")
    x = bz.StreamedModule.from_pretrained(folder)
    values_of("llama", x, LOWRANK, 2)
    moved = Path(x.store.folder)  # type: ignore[attr-defined]
    assert moved.is_dir()
    assert not any(t.is_meta for t in (*x.model.parameters(), *x.model.buffers()))
    layer: Any = x.model.model.layers[0]  # type: ignore[union-attr, index]
    assert layer.mlp.up_proj.weight.isnan().all()
    assert layer.input_layernorm.weight.isfinite().all()
    x.close()
    x.close()
    assert not moved.exists()
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in x.model.modules())
    assert "save_pretrained" not in vars(x.model)


def test_an_absent_parameter_has_no_memory() -> None:
    """It is one number, whatever its shape."""
    gone = absent(torch.empty(1000, 1000))
    assert gone.shape == (1000, 1000)
    assert gone.untyped_storage().nbytes() == 4


def test_a_sentence_for_what_cannot_be(tmp_path: Path) -> None:
    """Bad arguments, budgets and checkpoints."""
    folder, made = saved("llama", tmp_path / "model"), bz.StreamedModule.from_pretrained
    with pytest.raises(ValueError, match=r"of 48.8 KiB is too small") as error:
        made(folder, budget="50kB")
    least = str(error.value).split('"')[1]
    made(folder, budget=least).close()
    with pytest.raises(ValueError, match="too small"):
        made(folder, budget=f"{int(least.removesuffix('KiB')) - 1}KiB")
    with pytest.raises(ValueError, match="size such as"):
        made(folder, budget="lots")
    with pytest.raises(ValueError, match="'disk' or 'host'"):
        made(folder, store="tape")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'cuda:7' is not here; torch finds .*cpu"):
        made(folder, device="cuda:7")
    with pytest.raises(ValueError, match="knows no device 'graphics'"):
        made(folder, device="graphics")
    with pytest.raises(ValueError, match="share must be between 0 and 1"):
        made(folder, mask=1.5)
    with pytest.raises(ValueError, match=r"names 'layers'.*'model.layers'"):
        made(folder, blocks=["layers"])
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        made(tmp_path)
    with pytest.raises(ValueError, match="no trainable parameter matches"):
        made(folder, select="nothing")


def test_a_checkpoint_that_does_not_fit_its_model(tmp_path: Path) -> None:
    """Missing, extra and misshapen tensors are named, and a file that was cut off."""
    import safetensors.torch as files

    folder = saved("llama", tmp_path / "model")
    file = folder / "model.safetensors"
    whole, raw = files.load_file(file), file.read_bytes()

    def refused(tensors: dict[str, torch.Tensor]) -> str:
        files.save_file(tensors, file, {"format": "pt"})
        with pytest.raises(ValueError) as error:
            bz.StreamedModule.from_pretrained(folder)
        return str(error.value)

    name = "model.layers.1.mlp.up_proj.weight"
    assert f"lacks {name!r}" in refused({n: t for n, t in whole.items() if n != name})
    assert "has 'else.weight', which LlamaForCausalLM does not have" in refused({**whole, "else.weight": torch.ones(2)})
    assert "[3, 3] in the checkpoint, but [96, 64]" in refused({**whole, name: torch.ones(3, 3)})
    file.write_bytes(raw[:-100])
    with pytest.raises(ValueError, match="cut off or damaged"):
        bz.StreamedModule.from_pretrained(folder)
    file.write_bytes(raw[:4000])
    with pytest.raises(ValueError, match="damaged"):
        bz.StreamedModule.from_pretrained(folder)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="safetensors"):
        bz.StreamedModule.from_pretrained(folder)


def test_a_file_that_shrinks_during_a_run_is_named(tmp_path: Path) -> None:
    """A short read is an error, not zeros."""
    folder = saved("llama", tmp_path / "model")
    with bz.StreamedModule.from_pretrained(folder) as x:
        file = folder / "model.safetensors"
        with file.open("r+b") as handle:
            handle.truncate(file.stat().st_size // 2)
        with pytest.raises(OSError, match=r"model\.safetensors' has been cut off"), torch.no_grad():
            x.model(input_ids=torch.ones(1, 4, dtype=torch.long))


def test_a_model_without_blocks_is_refused(tmp_path: Path) -> None:
    """Its layers are one, used again and again."""
    config = transformers.AlbertConfig(
        vocab_size=V,
        embedding_size=64,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
    )
    transformers.AlbertForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="blocks of AlbertForSequenceClassification were not found"):
        bz.StreamedModule.from_pretrained(tmp_path)
