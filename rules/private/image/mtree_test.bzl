"""image_mtree_test: a golden listing of an image's files."""

load(":common.bzl", "run_imager")
load(":image_info.bzl", "ImageInfo")
load(":layer_info.bzl", "LayerInfo")

def _mtree_impl(ctx):
    if ImageInfo in ctx.attr.of:
        layers = ctx.attr.of[ImageInfo].own_layers
    else:
        layers = ctx.attr.of[LayerInfo].layers
    listings = [layer.golden for layer in layers if layer.golden]
    arguments = ["golden", "--golden", ctx.file.golden.short_path, "--update-command", "bazel run {}.update".format(ctx.attr.test)]
    for pattern in ctx.attr.ignore_content:
        arguments += ["--ignore-content", pattern]
    if ctx.attr.update:
        arguments.append("--update")
    arguments += [f.short_path for f in listings]
    return run_imager(ctx, ctx.executable._imager, arguments, ctx.runfiles([ctx.file.golden] + listings))

_ATTRS = {
    "golden": attr.label(allow_single_file = True, doc = "The golden listing.", mandatory = True),
    "ignore_content": attr.string_list(
        doc = "Patterns of absolute paths whose size and check sum are not compared; a star matches slashes too.",
    ),
    "of": attr.label(doc = "The image or layer.", mandatory = True, providers = [[ImageInfo], [LayerInfo]]),
    "test": attr.string(doc = "The test's label, for messages.", mandatory = True),
    "update": attr.bool(doc = "Write the golden instead of comparing with it."),
    "_imager": attr.label(default = "//tools/imager", doc = "The program that is run.", executable = True, cfg = "target"),
}

_mtree_test = rule(
    implementation = _mtree_impl,
    doc = "Compares the files of an image's own layers, or of a layer, with a golden listing.",
    attrs = _ATTRS,
    test = True,
)

_mtree_update = rule(
    implementation = _mtree_impl,
    doc = "Writes the golden of a test.",
    attrs = _ATTRS,
    executable = True,
)

def image_mtree_test(name, of, golden, ignore_content = [], size = "small", tags = [], **kwargs):
    """Compares the files of an image's own layers with a golden listing, for a review to see what changes.

    `bazel run NAME.update` writes the golden.

    Args:
      name: the test.
      of: the image, of which only the layers above its base image count, or a layer.
      golden: the golden listing, in the format of mtree(5).
      ignore_content: patterns of absolute paths whose size and check sum are not compared: programs that every edit
        changes. A star matches slashes too.
      size: the test's size.
      tags: the test's tags.
      **kwargs: further attributes of the test.
    """
    label = "//{}:{}".format(native.package_name(), name)
    _mtree_test(
        name = name,
        of = of,
        golden = golden,
        ignore_content = ignore_content,
        size = size,
        tags = tags,
        test = label,
        **kwargs
    )
    _mtree_update(
        name = name + ".update",
        of = of,
        golden = golden,
        ignore_content = ignore_content,
        tags = tags + ["manual"],
        test = label,
        testonly = True,
        update = True,
    )
