"""`select="lora"` and "prefix": what trains with peft's active adapters, no more and no less."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import blackbox_zo as bz
from oracles.llm import LossOracle

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # by peft


def llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        attention_bias=True, mlp_bias=True,
    )  # fmt: skip
    made: Any = LlamaForCausalLM(config)
    return made.eval()


def lora(**more: Any) -> Any:
    return peft.LoraConfig(**{"r": 2, "target_modules": ["q_proj"], **more})


def names(model: Any, select: str = "lora") -> set[str]:
    return set(bz.Module(model, select).parameters)


def trainable(model: Any) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ({}, {"lora_A", "lora_B"}),
        ({"modules_to_save": ["lm_head"]}, {"lora_A", "lora_B", "modules_to_save"}),
        ({"use_dora": True}, {"lora_A", "lora_B", "lora_magnitude_vector"}),
        ({"bias": "lora_only"}, {"lora_A", "lora_B", "base_layer.bias"}),
        ({"bias": "all"}, {"lora_A", "lora_B", "base_layer.bias", "mlp.up_proj.bias"}),
        ({"target_modules": ["embed_tokens"]}, {"lora_embedding_A", "lora_embedding_B"}),
        ({"trainable_token_indices": [3, 4]}, {"lora_A", "lora_B", "trainable_tokens_delta"}),
        ({"target_modules": "all-linear", "lora_bias": True}, {"lora_A", "lora_B", "down_proj.lora_B.default.bias"}),
    ],
)
def test_lora_is_all_that_peft_trains(more: dict[str, Any], parts: set[str]) -> None:
    model = peft.get_peft_model(llama(), lora(**more))
    found = names(model)
    assert found == trainable(model) and found
    assert all(any(part in name for name in found) for part in parts)


def test_other_trainable_weights_are_not_loras() -> None:
    model = peft.get_peft_model(llama(), lora())
    model.base_model.model.model.norm.weight.requires_grad_(True)
    found = names(model)
    assert found == {name for name in trainable(model) if "lora_" in name} and names(model, "all") == trainable(model)


def test_inactive_and_frozen_adapters_stay_where_they_are() -> None:
    model = peft.get_peft_model(llama(), lora(modules_to_save=["lm_head"]), "one")
    model.add_adapter("two", lora(target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head"]))
    for active, other in (("one", "two"), ("two", "one")):
        model.set_adapter(active)
        found = names(model)
        assert found == trainable(model)
        assert all(f".{active}." in name for name in found) and any("modules_to_save" in name for name in found)
        before = {n: p.clone() for n, p in model.named_parameters() if f".{other}." in n}
        batch = {"i": torch.ones(2, 3, dtype=torch.long)}
        oracle = LossOracle(model, [batch], lambda m, b: m(input_ids=b["i"]).logits[:, -1].logsumexp(-1))
        search = bz.Search(bz.Module(model, "lora"), bz.RandomVector(0.1, 2, "lowrank"), bz.SGD(0.1))
        assert len(list(search.run(oracle, steps=1))) == 1
        assert all(torch.equal(p, model.get_parameter(n)) for n, p in before.items()) and before


def test_an_inactive_adapter_that_is_not_frozen_stays_too() -> None:
    model = peft.get_peft_model(llama(), lora(), "one")
    model.add_adapter("two", lora())
    for name, p in model.named_parameters():
        if ".two." in name:
            p.requires_grad_(True)
    assert names(model) == {name for name in trainable(model) if ".one." in name}


def test_several_active_adapters_are_all_searched() -> None:
    model = peft.PeftMixedModel(llama(), lora(), "one")
    model.add_adapter("two", lora(target_modules=["v_proj"]))
    model.set_adapter(["one", "two"])
    found = names(model)
    assert any(".one." in name for name in found) and any(".two." in name for name in found)


def test_an_adapter_within_a_model_is_found() -> None:
    model = llama()
    peft.inject_adapter_in_model(lora(), model, "mine")
    assert names(model) == {name for name in trainable(model) if "lora_" in name} and names(model)


@pytest.mark.parametrize("kind", ["loaded", "disabled"])
def test_a_frozen_adapter_is_refused(kind: str) -> None:
    model = peft.get_peft_model(llama(), lora())
    if kind == "loaded":  # as `PeftModel.from_pretrained` gives it
        model.requires_grad_(False)
    else:
        model.base_model.disable_adapter_layers()
    with pytest.raises(ValueError, match=r"active adapters \('default'\) are frozen.*is_trainable=True"):
        bz.Module(model, "lora")


def test_other_kinds_of_adapters_are_no_lora() -> None:
    model = peft.get_peft_model(llama(), peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]))
    with pytest.raises(ValueError, match=r"matches 'lora' \(make an adapter by `peft\.get_peft_model`\)"):
        bz.Module(model, "lora")
    with pytest.raises(ValueError, match="no trainable parameter matches 'lora'"):
        bz.Module(llama(), "lora")


def test_prefix_is_that_of_the_active_adapter() -> None:
    def config() -> Any:
        return peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)

    model = peft.get_peft_model(llama(), config(), "one")
    model.add_adapter("two", config())
    for active in ("one", "two"):
        model.set_adapter(active)
        assert names(model, "prefix") == {f"prompt_encoder.{active}.embedding.weight"}
    model.requires_grad_(False)
    with pytest.raises(ValueError, match=r"active adapters \('two'\) are frozen"):
        bz.Module(model, "prefix")
