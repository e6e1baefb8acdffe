"""Oracles about language models: losses of a model on a batch, data, and loading. They need torch and transformers."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from oracles.llm._evaluate import evaluate as evaluate
    from oracles.llm._finetune import FineTune as FineTune
    from oracles.llm._finetune import Tuning as Tuning
    from oracles.llm._finetune import finetune as finetune
    from oracles.llm._finetune import replay as replay
    from oracles.llm._hybrid import HybridOracle as HybridOracle
    from oracles.llm._lora_gguf import save_lora_gguf as save_lora_gguf
    from oracles.llm._off_task import OffTask as OffTask
    from oracles.llm._oracle import LossOracle as LossOracle
    from oracles.llm._probe import probe as probe
    from oracles.llm.data import Examples as Examples
    from oracles.llm.data import Template as Template
    from oracles.llm.data import chat as chat
    from oracles.llm.data import classification as classification
    from oracles.llm.data import completion as completion
    from oracles.llm.data import label_tokens as label_tokens
    from oracles.llm.data import prompt_completion as prompt_completion
    from oracles.llm.data import prompts as prompts
    from oracles.llm.data import read_rows as read_rows
    from oracles.llm.data import text as text
    from oracles.llm.data import tokenised as tokenised
    from oracles.llm.losses import Accuracy as Accuracy
    from oracles.llm.losses import Completion as Completion
    from oracles.llm.losses import Generation as Generation
    from oracles.llm.losses import LabelWords as LabelWords
    from oracles.llm.losses import Reward as Reward
    from oracles.llm.losses import exact_match as exact_match
    from oracles.llm.losses import f1 as f1
    from oracles.llm.models import load_model as load_model
    from oracles.llm.trainer import ZOTrainer as ZOTrainer
    from oracles.llm.trainer import ZOTrainingArguments as ZOTrainingArguments
else:
    from oracles._lazy import lazy as _lazy

    _NAMES = {
        "_evaluate": ("evaluate",),
        "_finetune": ("FineTune", "Tuning", "finetune", "replay"),
        "_hybrid": ("HybridOracle",),
        "_lora_gguf": ("save_lora_gguf",),
        "_off_task": ("OffTask",),
        "_oracle": ("LossOracle",),
        "_probe": ("probe",),
        "data": (
            *("Examples", "Template", "chat", "classification", "completion", "label_tokens"),
            *("prompt_completion", "prompts", "read_rows", "text", "tokenised"),
        ),
        "losses": ("Accuracy", "Completion", "Generation", "LabelWords", "Reward", "exact_match", "f1"),
        "models": ("load_model",),
        "trainer": ("ZOTrainer", "ZOTrainingArguments"),
    }
    __getattr__ = _lazy(__name__, {name: module for module, names in _NAMES.items() for name in names})
