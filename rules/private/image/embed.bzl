"""image_embed: an image inside another one."""

load(":common.bzl", "IMAGER", "write_description")
load(":image_info.bzl", "ImageInfo")
load(":layer_info.bzl", "LayerInfo")

def _embed(ctx, name, what, inputs, arguments):
    blob = ctx.actions.declare_file(name + ".tar.gz")
    metadata = ctx.actions.declare_file(name + ".layer.json")
    mtree = ctx.actions.declare_file(name + ".mtree")
    args = ctx.actions.args()
    args.add("embed")
    args.add("--path", ctx.attr.path)
    args.add("--label", "{}: {}".format(str(ctx.label).lstrip("@"), what))
    args.add_all(arguments)
    args.add("--blob", blob)
    args.add("--metadata", metadata)
    args.add("--mtree", mtree)
    ctx.actions.run(
        executable = ctx.executable._imager,
        arguments = [args],
        inputs = inputs,
        outputs = [blob, metadata, mtree],
        mnemonic = "ImageEmbed",
        progress_message = "Embedding {} of %{{label}}".format(what),
    )

    # The inner image has a golden of its own, and here only its layers' digests would be listed.
    return struct(blob = blob, metadata = metadata, mtree = mtree, golden = None)

def _image_embed_impl(ctx):
    info = ctx.attr.image[ImageInfo]
    layers = []
    for i, layer in enumerate(info.layers):
        layers.append(_embed(
            ctx,
            "{}_{}".format(ctx.label.name, i),
            "layer {}".format(i),
            [layer.blob, layer.metadata],
            ["--inner-metadata", layer.metadata, "--inner-blob", layer.blob],
        ))
    description = write_description(ctx, info, ctx.label.name + ".inputs.json")
    layers.append(_embed(
        ctx,
        ctx.label.name + "_index",
        "index",
        [description, info.config, info.manifest] + [layer.metadata for layer in info.layers],
        ["--image", description],
    ))
    return [
        DefaultInfo(files = depset([f for layer in layers for f in (layer.blob, layer.metadata, layer.mtree)])),
        LayerInfo(layers = layers, state = None),
    ]

image_embed = rule(
    implementation = _image_embed_impl,
    doc = """Makes layers that put an image into another one, as an OCI layout whose blobs are not compressed, since the
outer layers are.

There is one outer layer for each inner one, and one for the rest, so that a small change to the inner image makes a
small change to the outer one.""",
    attrs = {
        "image": attr.label(doc = "The image to put into another.", mandatory = True, providers = [ImageInfo]),
        "path": attr.string(doc = "The absolute path of the layout's folder.", mandatory = True),
        "_imager": IMAGER,
    },
)
