"""Physics as functions on batched torch tensors.

Leading dimensions are batch, device follows the input, gradients flow. Nothing here
knows a network, a rank, a store or a scheduler.
"""
