"""component_layer_golden: a golden of one `component_layer`."""

load("//rules/private/golden:golden.bzl", "golden_test")

def component_layer_golden(name, layer, **kwargs):
    """Compares a layer with the listing testdata/LAYER.mtree, which `bazel run NAME.update` writes: see `golden_test`.

    Args:
      name: name of the test.
      layer: name of the `component_layer` target, without its `_layer`.
      **kwargs: further attributes of golden_test.
    """
    golden_test(
        name = name,
        golden = "testdata/{}.mtree".format(layer),
        of = [layer + "_layer"],
        **kwargs
    )
