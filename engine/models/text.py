"""Text to the states that a network attends to: CLIP's tokenizer and text tower."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..errors import WeightsDamaged, WeightsMissing
from .statedict import check_shapes, component_tensors, described, fill, renamed
from .weights import read_json

#: Buffer that older files carry: the positions 0, 1, 2 ...; the network counts by itself.
POSITIONS = "embeddings.position_ids"
#: How many of the last texts, or of the last lists of them, keep their states: the prompt and the negative prompt of
#: this job and of the one before.
REMEMBERED = 4
Tensors = Mapping[str, Tensor]
T = TypeVar("T", bound=nn.Module)


class TextEncoder:
    """Prompts to the last hidden states of a CLIP text tower, its final layer norm included.

    Args:
        tokenizer: pads as its ``special_tokens_map.json`` says: with end-of-text, or with "!" for OpenCLIP's towers.
        network: the tower.
    """

    network: nn.Module

    def __init__(self, tokenizer: CLIPTokenizer, network: CLIPTextModel) -> None:
        self._tokenizer, self.network = tokenizer, network
        self.length = int(network.config.max_position_embeddings)
        self.width = int(network.config.hidden_size)
        self._remembered: OrderedDict[tuple[str, ...], tuple[Tensor, ...]] = OrderedDict()

    def ids(self, prompts: Sequence[str]) -> Tensor:
        """Token ids (B, length) int64: start, text, end, padding; a text that is too long is cut."""
        return token_ids(self._tokenizer, prompts, self.length)

    def count(self, prompt: str) -> int:
        """Tokens of a text with its start and its end; beyond ``length`` they are cut."""
        return len(self._tokenizer([prompt]).input_ids[0])

    def states(self, ids: Tensor) -> Tensor:
        """States (B, length, width) float32 of token ids; padding is attended to, as in training."""
        return self._encode(ids)[0]

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """States (B, length, width) of texts; those of the last few are remembered."""
        return self._encoded(prompts)[0]

    @torch.inference_mode()
    def _encode(self, ids: Tensor) -> tuple[Tensor, ...]:
        """Everything that the network tells of token ids, the states first."""
        return (self.network(ids.to(self._place)).last_hidden_state.float(),)

    @property
    def _place(self) -> torch.device:
        return next(self.network.parameters()).device

    def _encoded(self, prompts: Sequence[str]) -> tuple[Tensor, ...]:
        """What ``_encode`` gives for texts, remembered."""
        key = tuple(prompts)
        told = self._remembered.pop(key) if key in self._remembered else self._encode(self.ids(prompts))
        self._remembered[key] = told
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return told

    def forget(self) -> None:
        """Work out every text anew: the network changes its type or its place."""
        self._remembered.clear()


def load_text(folder: Path) -> TextEncoder:
    """The text side of a pipeline folder: ``tokenizer/`` and ``text_encoder/``.

    Raises:
        WeightsMissing: a file is not there.
        WeightsDamaged: the weights are not those of the tower that the configuration describes.
    """
    config = read_json(folder / "text_encoder" / "config.json")
    return TextEncoder(
        load_tokenizer(folder / "tokenizer"), make_tower(config, component_tensors(folder / "text_encoder"))
    )


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer in a folder.

    Raises:
        WeightsMissing: its vocabulary or its merges are not there.
        WeightsDamaged: they cannot be read.
    """
    for name in ("vocab.json", "merges.txt"):  # transformers 5 writes both into tokenizer.json instead
        if not (folder / name).is_file() and not (folder / "tokenizer.json").is_file():
            raise WeightsMissing(
                f"The file {folder.name}/{name} is not there.", "Get the model's folder again, complete."
            )
    try:
        read = CLIPTokenizer.from_pretrained  # from this folder, never from a hub
        tokenizer = read(str(folder), local_files_only=True)
    except (ValueError, OSError, KeyError) as error:
        raise WeightsDamaged("The tokenizer cannot be read.") from error
    special = folder / "special_tokens_map.json"
    if special.is_file():  # decides where tokenizer_config.json says otherwise
        padding = read_json(special).get("pad_token", tokenizer.pad_token)
        tokenizer.pad_token = padding["content"] if isinstance(padding, dict) else padding
    return tokenizer


def make_tower(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> CLIPTextModel:
    """A text tower, strictly.

    transformers 5 took "text_model." out of its names; files of every age have it, and a lenient load would leave the
    tower as random as it was made.

    Raises:
        WeightsDamaged: keys are missing or too many, or shapes differ.
    """
    kept = renamed(tensors, lambda key: key.removeprefix("text_model."))
    kept.pop(POSITIONS, None)
    return fill_tower(CLIPTextModel, config, kept, "text encoder")


def fill_tower(kind: Callable[[CLIPTextConfig], T], config: Mapping[str, Any], tensors: Tensors, name: str) -> T:
    """A tower of a class of transformers with these weights; raises like ``make_tower``."""
    with described(name):
        settings = CLIPTextConfig(**{k: v for k, v in config.items() if not k.startswith("_")})
        with torch.device("meta"):  # compared before any memory is taken, whatever sizes the configuration names
            check_shapes(kind(settings), tensors, name)
        return fill(kind(settings), tensors, name)  # in memory: the positions are no part of its weights


def token_ids(tokenizer: CLIPTokenizer, prompts: Sequence[str], length: int) -> Tensor:
    """See ``TextEncoder.ids``."""
    told = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return torch.as_tensor(told.input_ids)
