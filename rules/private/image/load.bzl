"""image_load: brings an image into the local Docker."""

load(":common.bzl", "run_imager")
load(":image_info.bzl", "ImageInfo")

def _image_load_impl(ctx):
    description = ctx.file.image
    providers = run_imager(
        ctx,
        ctx.executable._imager,
        # A program that `bazel run` starts is in its workspace's folder of the runfiles.
        ["load", "--image", description.short_path, "--root", ".."],
        [description],
    )
    default = providers[0]
    runfiles = default.default_runfiles.merge(ctx.attr.image[DefaultInfo].default_runfiles)
    executable = default.files_to_run.executable
    return [DefaultInfo(executable = executable, runfiles = runfiles), providers[1]]

image_load = rule(
    implementation = _image_load_impl,
    doc = "`bazel run` brings the image into the local Docker, sending only the layers it lacks.",
    attrs = {
        "image": attr.label(allow_single_file = True, doc = "The image.", mandatory = True, providers = [ImageInfo]),
        "_imager": attr.label(default = "//tools/imager", doc = "The program that is run.", executable = True, cfg = "target"),
    },
    executable = True,
)
