"""Liger's fused Triton kernels for norms and SwiGLU, on GPUs where they are installed.

Its head with loss is not used: ours weighs every token by itself (screl/packed_model.py). Only the
modules of one model are changed, and not transformers' classes as Liger's own entry points do: the
saved checkpoint is read again on the CPU, where these kernels do not run.
"""

from importlib.util import find_spec

import torch

from screl.modeling import Model

GATED = ("gate_proj", "up_proj", "down_proj")


def has_liger() -> bool:
    """Whether Liger's kernels can be used here."""
    return torch.cuda.is_available() and find_spec("liger_kernel") is not None


def use_liger(model: Model) -> int:
    """Change ``model`` where Liger can be used; return how many modules were changed."""
    if not has_liger():
        return 0
    from liger_kernel.transformers.monkey_patch import (
        _patch_rms_norm_module,
        _patch_swiglu_module,
    )
    from liger_kernel.transformers.swiglu import LigerSwiGLUMLP

    changed = 0
    for module in model.modules():
        if type(module).__name__ in ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm"):
            _patch_rms_norm_module(module, eps=module.variance_epsilon)
        elif all(hasattr(module, name) for name in GATED) and model.config.hidden_act == "silu":
            _patch_swiglu_module(module, LigerSwiGLUMLP)
        else:
            continue
        changed += 1
    return changed
