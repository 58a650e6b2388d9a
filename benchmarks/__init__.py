"""The asv suite: speed, accuracy and memory of everything in the registry, per backend and instruction set.

``make bench`` runs it. Nothing here names a loss: a new one is measured as soon as it is registered.
"""
