"""How initiators find targets beside SendTargets: name services, each in a folder of its own."""
