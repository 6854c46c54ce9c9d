"""image_load: loads an image into the local Docker."""

load(":common.bzl", "run_imager")
load(":image_info.bzl", "ImageInfo")

def _image_load_impl(ctx):
    description = ctx.file.image
    return run_imager(
        ctx,
        ctx.executable._imager,
        # A program that `bazel run` starts is in its workspace's directory of the runfiles.
        ["load", "--image", description.short_path, "--root", ".."],
        ctx.runfiles([description]).merge(ctx.attr.image[DefaultInfo].default_runfiles),
    )

image_load = rule(
    implementation = _image_load_impl,
    doc = "`bazel run` loads the image into the local Docker, sending only the layers it lacks.",
    attrs = {
        "image": attr.label(allow_single_file = True, doc = "The image.", mandatory = True, providers = [ImageInfo]),
        "_imager": attr.label(default = "//tools/imager", doc = "The program that is run.", executable = True, cfg = "target"),
    },
    executable = True,
)
