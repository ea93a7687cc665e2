"""Pure measurements of gradients: tensors in, named numbers out; nothing changes by them."""
