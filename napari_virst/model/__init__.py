"""The workshop: tensors in, tensors out (torch and transformers)."""
