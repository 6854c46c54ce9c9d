"""image_archive and image_layout: all of an image in one place, as a file or a directory."""

load(":common.bzl", "IMAGER", "image_files", "write_description")
load(":image_info.bzl", "ImageInfo")

# A joined image is as large as all layers together and quickly made: a cache would only fill up
# with them.
_UNCACHED = {
    "no-cache": "1",
    "no-remote-cache": "1",
    "no-remote-exec": "1",
}

def _join(ctx, verb, output, mnemonic, what):
    info = ctx.attr.image[ImageInfo]
    description = write_description(ctx, info, ctx.label.name + ".inputs.json")
    args = ctx.actions.args()
    args.add(verb)
    args.add("--image", description)
    args.add_all("--output", [output], expand_directories = False)
    ctx.actions.run(
        executable = ctx.executable._imager,
        arguments = [args],
        inputs = [description] + image_files(info),
        outputs = [output],
        mnemonic = mnemonic,
        progress_message = "Writing {} %{{label}}".format(what),
        execution_requirements = _UNCACHED,
    )
    return [DefaultInfo(files = depset([output]))]

_ATTRS = {
    "image": attr.label(doc = "The image.", mandatory = True, providers = [ImageInfo]),
    "_imager": IMAGER,
}

def _image_archive_impl(ctx):
    return _join(ctx, "archive", ctx.actions.declare_file(ctx.label.name), "ImageArchive", "image archive")

image_archive = rule(
    implementation = _image_archive_impl,
    doc = "Writes an image as a file for `docker load`. The target's name is the file's.",
    attrs = _ATTRS,
)

def _image_layout_impl(ctx):
    return _join(ctx, "layout", ctx.actions.declare_directory(ctx.label.name), "ImageLayout", "OCI layout")

image_layout = rule(
    implementation = _image_layout_impl,
    doc = "Writes an image as a directory in the OCI image layout. The target's name is the directory's.",
    attrs = _ATTRS,
)
