"""Pure measurements of gradients: tensors in, named numbers out; nothing changes by them."""

from statland.gradients.flow import gradient_flow, profile

__all__ = ["gradient_flow", "profile"]
