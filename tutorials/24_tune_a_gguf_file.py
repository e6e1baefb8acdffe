"""Fine-tune a quantised model as it is, in a GGUF file, and run the result in llama.cpp.

You learn `blackbox_zo.quantised`: the search moves the scales of the file's blocks, or their integers.
"""

import importlib.util
import tempfile

import gguf
import numpy as np
import torch

import blackbox_zo as bz
from blackbox_zo.quantised import load_gguf, save_gguf
from oracles.llm import Examples, LabelWords, LossOracle, evaluate

# Texts of five tokens below 14. Does a text begin with one below 7? Tokens 14 and 15 are the answers.
texts = torch.randint(0, 14, (256, 5), generator=torch.Generator().manual_seed(0)).tolist()
examples = Examples(texts, pad=0, label=[int(text[0] < 7) for text in texts])
words = LabelWords((14, 15), over="labels")


def write_file(path, width=256, layers=2, heads=4):
    """Any model's file will do; this one is of random numbers, in 4 bits each."""
    writer, rng = gguf.GGUFWriter(path, "llama"), np.random.default_rng(0)
    writer.add_block_count(layers)
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(4 * width)
    writer.add_head_count(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(16)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([chr(97 + i) for i in range(16)])
    writer.add_token_merges(["a b"])
    shapes = {"attn_q": (1, 1), "attn_k": (1, 1), "attn_v": (1, 1), "attn_output": (1, 1)}
    shapes |= {"ffn_gate": (4, 1), "ffn_up": (4, 1), "ffn_down": (1, 4)}
    tensors = {f"blk.{i}.{name}": (a * width, b * width) for i in range(layers) for name, (a, b) in shapes.items()}
    for name, shape in {"token_embd": (16, width), **tensors}.items():
        numbers, kind = 0.03 * rng.standard_normal(shape).astype(np.float32), gguf.GGMLQuantizationType.Q4_1
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(numbers, kind), raw_dtype=kind)
    for name in ("output_norm", *(f"blk.{i}.{part}_norm" for i in range(layers) for part in ("attn", "ffn"))):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


with tempfile.TemporaryDirectory() as folder:
    write_file(f"{folder}/model.gguf")
    for moves, radius, rate, kind in (("scales", 1e-2, 1e-1, "gaussian"), ("codes", 1 / 8, 2.0, "sparse")):
        model = load_gguf(f"{folder}/model.gguf", moves=moves)
        before = evaluate(model, examples, {"loss": words})["loss"]
        x = bz.Module(model, "scale_shift" if moves == "scales" else "code_shift")
        oracle = LossOracle(model, examples.shuffled(32), words)
        for _ in bz.Search(x, bz.RandomVector(radius, 4, kind), bz.SGD(rate)).run(oracle, steps=10):
            pass
        print(f"{moves}: loss {before:.3f} before, {evaluate(model, examples, {'loss': words})['loss']:.3f} after")
        save_gguf(model, f"{folder}/{moves}.gguf")

    if importlib.util.find_spec("llama_cpp"):
        import llama_cpp

        there = llama_cpp.Llama(f"{folder}/codes.gguf", n_ctx=64, logits_all=True, verbose=False)
        there.eval(texts[0])
        theirs, mine = np.array(there.scores[:5]), model(torch.tensor([texts[0]])).logits[0].detach().numpy()
        print(f"llama.cpp gives the same logits to {np.abs(theirs - mine).max() / np.abs(mine).max():.0%}")
    else:
        print("llama.cpp is not here: pip install 'blackbox-zo[llama-cpp]'")
