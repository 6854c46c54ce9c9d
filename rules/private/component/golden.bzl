"""component_layer_golden: what is in a layer, held against a listing that a review can read."""

load("@bazel_skylib//rules:diff_test.bzl", "diff_test")

def component_layer_golden(name, layer):
    """Tests that a layer's listing (mtree(5)) is what testdata/LAYER.mtree says.

    Args:
      name: name of the test.
      layer: name of the `component_layer` target, without its `_layer`.
    """
    native.filegroup(
        name = layer + "_mtree",
        srcs = [layer + "_layer"],
        output_group = "mtree",
    )
    diff_test(
        name = name,
        failure_message = "If the change is meant: images/components/update-listings",
        file1 = "testdata/{}.mtree".format(layer),
        file2 = layer + "_mtree",
    )
