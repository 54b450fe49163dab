"""Text to what Stable Diffusion XL is told of it: the states of two CLIP towers side by side, and one vector.

Facts: Podell et al. 2023, "SDXL", section 2.1 and table 1, and diffusers' ``StableDiffusionXLPipeline.encode_prompt``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ..errors import WeightsDamaged
from .statedict import component_tensors, renamed
from .text import POSITIONS, TextEncoder, fill_tower, load_tokenizer, make_tower, token_ids
from .weights import read_json

#: Which of a tower's hidden states is read: those before its last layer, without the final layer norm.
READ = -2
_PROJECTION = "text_projection."


class TwoTowers(nn.Module):
    """Two text towers as one network, so that they are placed and moved together.

    Args:
        first: of CLIP.
        second: of OpenCLIP, with a projection of its end-of-text state.
    """

    def __init__(self, first: CLIPTextModel, second: CLIPTextModelWithProjection) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(states (B, length, width), pooled (B, projection)) of ids (B, 2, length), one row for each tower."""
        first = self.first(ids[:, 0], output_hidden_states=True)
        second = self.second(ids[:, 1], output_hidden_states=True)
        states = torch.cat([first.hidden_states[READ], second.hidden_states[READ]], dim=-1)
        return states.float(), second.text_embeds.float()


class PairedText(TextEncoder):
    """Prompts to the states of two towers side by side, and to the pooled vector of the second.

    Args:
        tokenizers: of each tower: they share a vocabulary and pad differently.
        towers: both.

    Raises:
        WeightsDamaged: the towers read texts of different lengths.
    """

    def __init__(self, tokenizers: tuple[CLIPTokenizer, CLIPTokenizer], towers: TwoTowers) -> None:
        super().__init__(tokenizers[0], towers.first)
        second = towers.second.config
        if int(second.max_position_embeddings) != self.length:
            raise WeightsDamaged(
                "The two text encoders read texts of different lengths.", "Get the model's folder again."
            )
        self.network = towers
        self._tokenizers = tokenizers
        self.width += int(second.hidden_size)
        #: Of the vector.
        self.pooled_width = int(second.projection_dim)

    def ids(self, prompts: Sequence[str]) -> Tensor:
        """Token ids (B, 2, length) int64, one row for each tower; a text that is too long is cut."""
        return torch.stack([token_ids(each, prompts, self.length) for each in self._tokenizers], dim=1)

    def count(self, prompt: str) -> int:
        """See ``TextEncoder``: of the tower that needs more."""
        return max(len(each([prompt]).input_ids[0]) for each in self._tokenizers)

    def pooled(self, prompts: Sequence[str]) -> Tensor:
        """One vector (B, projection) float32 for each text."""
        return self._encoded(prompts)[1]

    @torch.inference_mode()
    def _encode(self, ids: Tensor) -> tuple[Tensor, ...]:
        states, pooled = self.network(ids.to(self._place))
        return states, pooled


def load_paired_text(folder: Path) -> PairedText:
    """The text side of a pipeline folder with ``tokenizer/``, ``text_encoder/``, ``tokenizer_2/``, ``text_encoder_2/``.

    Raises:
        WeightsMissing: a file is not there.
        WeightsDamaged: the weights are not those of the towers that the configurations describe.
    """
    first, second = folder / "text_encoder", folder / "text_encoder_2"
    towers = TwoTowers(
        make_tower(read_json(first / "config.json"), component_tensors(first)),
        make_projecting_tower(read_json(second / "config.json"), component_tensors(second)),
    )
    return PairedText((load_tokenizer(folder / "tokenizer"), load_tokenizer(folder / "tokenizer_2")), towers.eval())


def make_projecting_tower(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> CLIPTextModelWithProjection:
    """A text tower with a projection, strictly, in the names of any version of transformers.

    Raises:
        WeightsDamaged: keys are missing or too many, or shapes differ.
    """

    def own(key: str) -> str:
        return key if key.startswith(_PROJECTION) else "text_model." + key.removeprefix("text_model.")

    kept = renamed(tensors, own)
    kept.pop(f"text_model.{POSITIONS}", None)
    return fill_tower(CLIPTextModelWithProjection, config, kept, "second text encoder")
