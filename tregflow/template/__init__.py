"""The versioned gating template: model, loading, registry, panel, exchange with other programs."""
