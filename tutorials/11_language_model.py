"""Fine-tune a language model without a gradient, and rebuild its weights from the journal.

You learn `Module`, `LossOracle` and `replay`: queries never write to the weights, and the journal is the checkpoint.
"""

import copy
import tempfile
from pathlib import Path

import torch
import transformers

import blackbox_zo as bz
from oracles.llm import Accuracy, Examples, LabelWords, LossOracle, evaluate, replay

torch.manual_seed(0)
config = transformers.LlamaConfig(
    vocab_size=16,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    initializer_range=0.2,
)
model = transformers.LlamaForCausalLM(config).eval()
base = copy.deepcopy(model)

# Texts of five tokens below 14. Does a text begin with one below 7? Tokens 14 and 15 are the answers.
texts = torch.randint(0, 14, (256, 5)).tolist()
examples = Examples(texts, pad=0, label=[int(text[0] < 7) for text in texts])
words = LabelWords((14, 15), over="labels")
measures = {"loss": words, "wrong": Accuracy(words)}


def show(when, net):
    """Print the loss, and the share of right answers."""
    found = evaluate(net, examples.batches(64), measures)
    print(f"{when}: loss {found['loss']:.3f}, {1 - found['wrong']:.0%} right")


show("before", model)
with tempfile.TemporaryDirectory() as folder:
    journal = Path(folder) / "run.jsonl"
    estimator = bz.RandomVector(1e-2, 32, "lowrank")  # 32 directions a step, one for each example of its batch
    oracle = LossOracle(model, examples.shuffled(32), words, directions_per="example")
    with bz.Search(bz.Module(model), estimator, bz.Adam(5e-3), journal=journal) as search:
        for report in search.run(oracle, steps=300):
            if report.step % 100 == 99:
                show(f"after {report.step + 1} steps", model)
    print(f"{oracle.forwards} examples went forwards, none backwards")

    replay(journal, base)  # the base model and the journal are the weights after any step
    same = all(torch.equal(a, b) for a, b in zip(model.parameters(), base.parameters(), strict=True))
    print(f"rebuilt from the losses alone, bit for bit: {same}")
