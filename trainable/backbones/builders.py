"""The builders of networks by the source of their weights, those without names included."""

from __future__ import annotations

from trainable.backbones import sources
from trainable.backbones.source import NetworkBuilder
from trainable.backbones.weights import DECODED


def builder_called(name: str) -> NetworkBuilder:
    """Return the builder for the source of some weights; only its module is imported.

    Raises:
        PluginError: no installed package has such a source.
    """
    if name == DECODED:
        from trainable.backbones import decoders

        return decoders
    return sources.builder_called(name)
