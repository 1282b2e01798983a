"""The verbs, each written once as a generator of effects; see `registry.effects`."""
