"""Fine-tune a language model in a quarter of the memory that its weights take, and from one byte for each of them.

You learn `StreamedModule`: blocks come from the disk as the model runs them, with the numbers of a model in memory.
"""

import tempfile
from pathlib import Path

import torch
import transformers

import blackbox_zo as bz
from oracles.llm import Examples, LabelWords, LossOracle, evaluate

torch.manual_seed(0)
config = transformers.LlamaConfig(
    vocab_size=16,
    hidden_size=256,
    intermediate_size=1024,
    num_hidden_layers=8,
    num_attention_heads=4,
    initializer_range=0.03,
)

# Texts of five tokens below 14. Does a text begin with one below 7? Tokens 14 and 15 are the answers.
texts = torch.randint(0, 14, (256, 5)).tolist()
examples = Examples(texts, pad=0, label=[int(text[0] < 7) for text in texts])
words = LabelWords((14, 15), over="labels")
method = bz.RandomVector(1e-3, 16, "lowrank"), bz.SGD(2e-4)


def loss(model):
    """The mean over all examples."""
    return evaluate(model, examples.batches(64), {"loss": words})["loss"]


def tuned(x, steps=20):
    """Run some steps, and give the loss after them."""
    oracle = LossOracle(x.model, examples.shuffled(16), words, directions_per="example")
    for _ in bz.Search(x, *method).run(oracle, steps=steps):
        pass
    return loss(x.model)


with tempfile.TemporaryDirectory() as folder:
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    size = (Path(folder) / "model.safetensors").stat().st_size / 2**20

    model = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
    print(f"in memory, {size:.0f} MiB of weights: loss {loss(model):.3f} before, {tuned(bz.Module(model)):.6f} after")

    with bz.StreamedModule.from_pretrained(folder, budget="9MiB", log_structured=True) as x:
        print(f"streamed, {x}: {tuned(x):.6f} after")
        same = all(torch.equal(p, model.get_parameter(name)) for name, p in x.whole())
        print(f"the same weights, bit for bit: {same}")
        x.model.save_pretrained(Path(folder) / "tuned")  # one tensor at a time

    # A byte for each weight on the disk: a quarter is read. Moves are still right on average.
    with bz.StreamedModule.from_pretrained(folder, transfer_dtype="int8", log_structured=True) as x:
        print(f"streamed, {x}: {tuned(x):.3f} after")
