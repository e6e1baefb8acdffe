"""Pictures of a tiny random pipeline, steered by its noise and by its prompt's embedding."""

from __future__ import annotations

import json
import string
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

import blackbox_zo as bz
from oracles._imported import imported
from oracles.ranking import HumanRanking
from oracles.ranking.renderers.diffusion import Latent, PromptEmbedding
from tests.oracles.ranking.people import Person

diffusers = pytest.importorskip("diffusers", reason="needs diffusers: pip install 'blackbox-zo[diffusion]'")
torch = pytest.importorskip("torch", reason="needs torch: pip install 'blackbox-zo[diffusion]'")

STEPS = {"num_inference_steps": 2}
SIZE = 32
NOISE = (4, 16, 16)
DOWN = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
UP = {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What both pipelines have: a tokenizer of letters, a decoder and a scheduler."""
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    words = [*string.ascii_lowercase, *(f"{c}</w>" for c in string.ascii_lowercase), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    torch.manual_seed(0)
    return {
        "tokenizer": CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16),
        "scheduler": diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        "vae": vae(),
    }


def vae(**more: Any) -> Any:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return diffusers.AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, **blocks, **more)


def text(**more: Any) -> Any:
    from transformers import CLIPTextConfig

    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    ids: dict[str, Any] = {"vocab_size": 54, "bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}
    return CLIPTextConfig(max_position_embeddings=16, **sizes, **ids, **more)


def unet(**more: Any) -> Any:
    sizes = {"sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    return diffusers.UNet2DConditionModel(**sizes, **DOWN, **UP, attention_head_dim=4, **more)


@pytest.fixture(scope="module")
def pipeline(parts: dict[str, Any]) -> Any:
    from transformers import CLIPTextModel

    out = diffusers.StableDiffusionPipeline(
        **parts,
        text_encoder=CLIPTextModel(text()),
        unet=unet(cross_attention_dim=16),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    out.set_progress_bar_config(disable=True)
    return out


@pytest.fixture(scope="module")
def xl(parts: dict[str, Any]) -> Any:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    out = diffusers.StableDiffusionXLPipeline(
        **parts,
        tokenizer_2=parts["tokenizer"],
        text_encoder=CLIPTextModel(text()),
        text_encoder_2=CLIPTextModelWithProjection(text(projection_dim=16)),
        unet=unet(
            cross_attention_dim=32,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=16 + 6 * 4,
        ),
        add_watermarker=False,
    )
    out.set_progress_bar_config(disable=True)
    return out


@pytest.fixture(scope="module")
def sd3(parts: dict[str, Any]) -> Any:
    """Of the kind that flows: a transformer, two pooled embeddings, and `prompt_2` and `prompt_3` to be given."""
    from transformers import CLIPTextModelWithProjection

    out = diffusers.StableDiffusion3Pipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=vae(shift_factor=0.1),
        tokenizer=parts["tokenizer"],
        tokenizer_2=parts["tokenizer"],
        tokenizer_3=None,
        text_encoder=CLIPTextModelWithProjection(text(projection_dim=16)),
        text_encoder_2=CLIPTextModelWithProjection(text(projection_dim=16)),
        text_encoder_3=None,
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=16,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=32,
            caption_projection_dim=32,
            pooled_projection_dim=32,
        ),
    )
    out.set_progress_bar_config(disable=True)
    return out


def array(picture: Any) -> Any:
    return np.asarray(picture).astype(int)


def own(pipeline: Any, seed: int = 0, **more: Any) -> Any:
    """The picture that the pipeline makes by itself."""
    generator = torch.Generator().manual_seed(seed)
    return array(pipeline("a red bicycle", generator=generator, **STEPS, **more).images[0])


@pytest.mark.parametrize("which", ["pipeline", "xl", "sd3"])
@pytest.mark.parametrize("renderer", [Latent, PromptEmbedding])
@pytest.mark.parametrize("directions", [None, 5])
def test_x0_is_the_pipelines_own_picture_and_x_alone_decides(
    which: str, renderer: Any, directions: int | None, request: pytest.FixtureRequest
) -> None:
    pipe = request.getfixturevalue(which)
    render = renderer(pipe, "a red bicycle", directions=directions, seed=3, **STEPS)
    np.testing.assert_array_equal(array(render(render.x0)), own(pipe, 3))
    x = render.x0 + np.random.default_rng(0).standard_normal(render.x0.shape)
    first = array(render(x))
    render(-x)
    torch.manual_seed(99)
    np.testing.assert_array_equal(array(render(x)), first)
    assert first.shape == (SIZE, SIZE, 3) and (first != own(pipe, 3)).any()


def test_x0_has_the_shape_that_the_pipeline_wants(pipeline: Any, xl: Any) -> None:
    assert Latent(pipeline, "a").x0.shape == NOISE
    assert Latent(pipeline, "a", height=48, width=64).x0.shape == (4, 24, 32)
    assert PromptEmbedding(pipeline, "a").x0.shape == (16, 16)
    assert PromptEmbedding(xl, "a").x0.shape == (16, 32)
    for renderer in (Latent, PromptEmbedding):
        np.testing.assert_array_equal(renderer(pipeline, "a", directions=3).x0, np.zeros(3))
        assert renderer(pipeline, "a").x0.dtype == np.float64


def test_looking_at_the_noise_takes_one_step(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Mock(wraps=pipeline.unet.forward)
    monkeypatch.setattr(pipeline.unet, "forward", forward)
    Latent(pipeline, "a", num_inference_steps=20)
    assert forward.call_count == 1


def test_what_a_scheduler_draws_is_fixed_too(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is not given the generator."""
    scheduler = diffusers.DDPMScheduler()
    monkeypatch.setattr(pipeline, "scheduler", scheduler)
    render = Latent(pipeline, "a red bicycle", seed=4, num_inference_steps=3)
    drawn = array(
        pipeline("a red bicycle", generator=torch.Generator().manual_seed(4), num_inference_steps=3).images[0]
    )
    np.testing.assert_array_equal(array(render(render.x0)), drawn)
    step = scheduler.step
    monkeypatch.setattr(scheduler, "step", lambda *a, **k: step(*a, **k))  # hides the argument `generator`
    state = torch.get_rng_state()
    first = array(render(render.x0))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    np.testing.assert_array_equal(array(render(render.x0)), first)
    assert (first != drawn).any()


def test_only_the_direction_of_noise_counts(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    render = Latent(pipeline, "a red bicycle", **STEPS)
    whole = np.linalg.norm(render.x0)
    assert whole == pytest.approx(np.sqrt(render.x0.size), rel=0.1)
    for factor in (0.01, 40.0):
        assert abs(array(render(factor * render.x0)) - own(pipeline)).max() <= 1
    few = Latent(pipeline, "a red bicycle", directions=3, scale=5.0, **STEPS)
    asked = Mock(wraps=pipeline.prepare_latents)
    monkeypatch.setattr(pipeline, "prepare_latents", asked)
    render(render.x0 + 3)
    few([1.0, -2.0, 3.0])
    for call in asked.call_args_list:
        assert float(torch.linalg.norm(call.args[-1])) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("renderer", [Latent, PromptEmbedding])
def test_directions_are_orthogonal_and_move_by_scale(pipeline: Any, renderer: Any) -> None:
    render = renderer(pipeline, "a", directions=6, scale=0.3, seed=1)
    basis = render._space.basis
    length = 0.3 * np.linalg.norm(render._space.base) / np.sqrt(6)
    np.testing.assert_allclose(basis.T @ basis, length**2 * np.eye(6), atol=1e-9 * length**2)
    assert (renderer(pipeline, "a", directions=6, scale=0.3, seed=2)._space.basis != basis).any()
    x = np.sqrt(6) * np.eye(6)[2]
    moved = render._space.point(x) - render._space.base
    assert np.linalg.norm(moved) == pytest.approx(0.3 * np.linalg.norm(render._space.base))


def test_half_precision(parts: dict[str, Any]) -> None:
    from transformers import CLIPTextModel

    pipe = diffusers.StableDiffusionPipeline(
        **{**parts, "vae": vae().to(torch.float16)},
        text_encoder=CLIPTextModel(text()).to(torch.float16),
        unet=unet(cross_attention_dim=16).to(torch.float16),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    for renderer in (Latent, PromptEmbedding):
        render = renderer(pipe, "a red bicycle", **STEPS)
        np.testing.assert_array_equal(array(render(render.x0)), own(pipe))


TWO: Any = ["a", "b"]


class Other:
    def __call__(self, prompt: str, output_type: str) -> None: ...


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (lambda p: Latent(Other(), "a"), "`Other`: it has no argument `latents`"),
        (lambda p: PromptEmbedding(Other(), "a"), "no argument `prompt_embeds`"),
        (lambda p: Latent(p, TWO), "must be one text"),
        (lambda p: Latent(p, "a", hight=64), "`StableDiffusionPipeline` has no such argument"),
        (lambda p: Latent(p, "a", generator=None), r"`Latent\(generator=...\)` is not allowed"),
        (lambda p: Latent(p, "a", directions=0), "must be a whole number of at least 1"),
        (lambda p: PromptEmbedding(p, "a", directions=257), "must be at most 256, got 257"),
        (lambda p: PromptEmbedding(p, "a", directions=2, scale=0), "must be a positive number"),
        (lambda p: Latent(p, "a")(np.zeros(3)), r"must have the shape \(4, 16, 16\), got \(3,\)"),
        (lambda p: Latent(p, "a", directions=2)([1.0, np.nan]), "NaN"),
        (lambda p: PromptEmbedding(p, "a", directions=2)([1.0, np.inf]), "infinite"),
        (lambda p: Latent(p, "a")(np.zeros(NOISE)), "0, which has no direction"),
    ],
)
def test_errors_say_what_is_wrong(pipeline: Any, build: Any, what: str) -> None:
    with pytest.raises((TypeError, ValueError), match=what):
        build(pipeline)


def test_renderers_that_share_a_pipeline_wait_for_each_other(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Since the scheduler of one run is the state of the pipeline."""
    renders: list[Any] = [kind(pipeline, "a", directions=2, **STEPS) for kind in (Latent, PromptEmbedding)]
    alone = [array(render([1.0, 2.0])) for render in renders]
    ran: list[int] = []
    forward = pipeline.unet.forward

    def slow(*given: Any, **more: Any) -> Any:
        ran.append(threading.get_ident())
        time.sleep(0.01)
        return forward(*given, **more)

    monkeypatch.setattr(pipeline.unet, "forward", slow)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: array(renders[i % 2]([1.0, 2.0])), range(8)))
    for i, picture in enumerate(together):
        np.testing.assert_array_equal(picture, alone[i % 2])
    assert ran[::2] == ran[1::2] and len(set(ran)) > 1  # both steps of one picture, then those of another


def test_a_person_steers_it(pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user's module, by the name that the command is given."""
    (tmp_path / "my_bicycles.py").write_text("render = None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_bicycles  # type: ignore[import-not-found]

    my_bicycles.render = Latent(pipeline, "a red bicycle", directions=4, **STEPS)
    render = imported("my_bicycles:render", "--render")
    oracle = HumanRanking(render, tmp_path / "s.db")
    search = bz.Search(render.x0, bz.EvolutionStrategy(1.0, 3), seed=0)
    thread = threading.Thread(target=lambda: list(search.run(oracle, 1)), daemon=True)
    thread.start()
    try:
        person = Person(oracle.url)
        shown = person.round()["candidates"]
        assert [c["kind"] for c in shown] == ["image"] * 3 and len({c["id"] for c in shown}) == 3
        assert person.answer([[c["id"]] for c in shown]).status == 200
        thread.join(20)
        assert not thread.is_alive()
    finally:
        oracle.close()
    assert search.x.shape == (4,) and np.any(search.x)


def test_importing_loads_neither_torch_nor_diffusers() -> None:
    code = (
        "import sys, oracles.ranking.renderers.diffusion; assert not {'torch', 'diffusers', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
