"""image_layout: an image as an OCI layout."""

load(":common.bzl", "IMAGER", "UNCACHED", "image_files", "write_description")
load(":image_info.bzl", "ImageInfo")

def _image_layout_impl(ctx):
    info = ctx.attr.image[ImageInfo]
    description = write_description(ctx, info, ctx.label.name + ".inputs.json")
    layout = ctx.actions.declare_directory(ctx.label.name)
    args = ctx.actions.args()
    args.add("layout")
    args.add("--image", description)
    args.add_all("--output", [layout], expand_directories = False)
    ctx.actions.run(
        executable = ctx.executable._imager,
        arguments = [args],
        inputs = [description] + image_files(info),
        outputs = [layout],
        mnemonic = "ImageLayout",
        progress_message = "Writing OCI layout %{label}",
        execution_requirements = UNCACHED,
    )
    return [DefaultInfo(files = depset([layout]))]

image_layout = rule(
    implementation = _image_layout_impl,
    doc = "Writes an image as a folder in the OCI image layout. The target's name is the folder's.",
    attrs = {
        "image": attr.label(doc = "The image.", mandatory = True, providers = [ImageInfo]),
        "_imager": IMAGER,
    },
)
