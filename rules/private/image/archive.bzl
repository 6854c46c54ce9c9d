"""image_archive: an image as one file."""

load(":common.bzl", "IMAGER", "UNCACHED", "image_files", "write_description")
load(":image_info.bzl", "ImageInfo")

def _image_archive_impl(ctx):
    info = ctx.attr.image[ImageInfo]
    description = write_description(ctx, info, ctx.label.name + ".inputs.json")
    archive = ctx.actions.declare_file(ctx.label.name)
    args = ctx.actions.args()
    args.add("archive")
    args.add("--image", description)
    args.add("--output", archive)
    ctx.actions.run(
        executable = ctx.executable._imager,
        arguments = [args],
        inputs = [description] + image_files(info),
        outputs = [archive],
        mnemonic = "ImageArchive",
        progress_message = "Writing image archive %{label}",
        execution_requirements = UNCACHED,
    )
    return [DefaultInfo(files = depset([archive]))]

image_archive = rule(
    implementation = _image_archive_impl,
    doc = "Writes an image as a file for `docker load`. The target's name is the file's.",
    attrs = {
        "image": attr.label(doc = "The image.", mandatory = True, providers = [ImageInfo]),
        "_imager": IMAGER,
    },
)
