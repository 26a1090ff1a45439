"""A bug in models that mix local and global layers."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, is_called, mutator

LAYER = r"(\w+_)?(i|idx|index|layer|layer_idx|layer_id|layer_index|n)"
PERIOD = (
    r"(\w+_)?(every|period|pattern|interval|freq|frequency|ratio|stride|sliding_window_pattern)"
)


# Fits one subject: only attention_masks has layers of two kinds.
@mutator(
    topic="masking",
    family="sliding-layers-inverted",
    hints=[
        "List for every layer how far it looks back, and compare with the model's card.",
        "Does the code count layers from 0 or from 1, and does the published pattern?",
        "Of each period the last layer is global, and the first layer of the model is local.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/pull/31775",
            "each layer got the other kind's mask",
        ),
        Sighting(
            "https://github.com/NVIDIA-NeMo/Megatron-Bridge/pull/4875",
            "layers were numbered from one",
        ),
    ],
    mutates={
        "specs = [full if (i + 1) % global_every == 0 else local for i in range(n_layers)]": (
            "specs = [full if i % global_every == 0 else local for i in range(n_layers)]"
        ),
        "self.is_sliding = (layer_idx + 1) % cfg.sliding_window_pattern != 0": (
            "self.is_sliding = layer_idx % cfg.sliding_window_pattern != 0"
        ),
        "self.window = cfg.window if bool((layer_idx + 1) % pattern) else None": (
            "self.window = cfg.window if bool(layer_idx % pattern) else None"
        ),
    },
    spares=[
        "full = [i % global_every == global_every - 1 for i in range(n_layers)]",
        "if (step + 1) % log_every == 0: report(step)",
        "slot = (i + 1) % capacity",
    ],
)
def local_and_global_layers_change_places(
    node: cst.BinaryOperation,
) -> Iterator[cst.BinaryOperation]:
    """The pattern of local and global layers begins one layer too early.

    Some models look at everything only in every n-th layer. Published patterns count layers from 1
    and code counts from 0, hence a `+ 1` that is easily taken for a slip. Without it the first
    layer of each period is the global one, and all the layers behind it are shifted.

    The number of layers of each kind stays about the same, weights load without complaint, and up
    to the window's length local and global layers are the same thing.
    """
    match node:
        case cst.BinaryOperation(
            left=cst.BinaryOperation(left=layer, operator=cst.Add(), right=cst.Integer(value="1")),
            operator=cst.Modulo(),
            right=period,
        ) if is_called(layer, LAYER) and is_called(period, PERIOD):
            yield node.with_changes(left=layer)
